"""An answer in Markdown, drawn while it arrives.

Final rows are printed once and never touched again; below them the live rows, the end of the
answer that may still change, are drawn anew at most ``max_fps`` times a second. Between two frames
the cursor waits at the start of the first live row. A frame therefore only erases downward from
the cursor: whatever a window does to its lines when it is resized, nothing final can be lost. The
live rows never fill the window, so they never scroll, and nothing is ever in the scrollback twice.
"""

import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from tanuki_cli.terminal.markdown.blocks import BlockRenderer
from tanuki_cli.terminal.theme import Look, ansi
from tanuki_cli.text.japanese import Cell
from tanuki_cli.text.sanitize import Sanitizer

Row = list[Cell]

_BEGIN_FRAME: Final = "\x1b[?2026h"
_END_FRAME: Final = "\x1b[?2026l"
_ERASE_BELOW: Final = "\r\x1b[J"
_LEAST_WIDTH: Final = 4


class MarkdownStream:
    """Prints one answer to a terminal. Text comes by :meth:`feed`; :meth:`finish` ends it.

    The cursor must be at the beginning of an empty line, and is again when the answer has ended.
    ``write`` gets one whole frame at a time and shows it at once (it flushes). ``width`` and
    ``height`` tell the window's size in cells whenever a frame is drawn. Output consists of
    printable text, newlines and four kinds of control sequences: SGR, cursor up, erase below,
    synchronised update.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        look: Look,
        width: Callable[[], int],
        height: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        max_fps: int = 30,
    ) -> None:
        self._write = write
        self._width = width
        self._height = height
        self._clock = clock
        self._interval = 1 / max_fps
        self._drawn_at = -self._interval
        self._sanitizer = Sanitizer()
        self._blocks = BlockRenderer(look, width=width())
        self._received: list[str] = []
        self._line = ""
        self._live: list[str] = []
        self._printed = False

    def feed(self, text: str) -> None:
        """More of the answer; draws it unless the last frame is too recent."""
        self._received.append(text)
        if self._clock() - self._drawn_at >= self._interval:
            self.draw()

    def draw(self) -> None:
        """Show everything received so far. For callers that are about to wait."""
        self._read(self._sanitizer.feed("".join(self._received)))
        self._received.clear()
        if self._line and self._blocks.begin_line(self._line):
            self._line = ""
        rows = self._blocks.take_rows()
        room = max(1, self._height() - 1)
        live = [
            to_ansi(part)
            for row in self._blocks.preview(self._line, room)
            for part in _chop(row, self._blocks.width)
        ][-room:]
        if rows or live != self._live:
            self._frame(rows, live)
        self._drawn_at = self._clock()

    def finish(self) -> None:
        """The answer is complete: all of it becomes final, followed by exactly one newline."""
        self._end(cut_off=False)

    def interrupt(self) -> None:
        """The answer was cut off: like :meth:`finish`, but unclosed markup stays as it was shown."""
        self._end(cut_off=True)

    def _end(self, *, cut_off: bool) -> None:
        self._read(self._sanitizer.feed("".join(self._received)) + self._sanitizer.finish())
        self._received.clear()
        if self._line:
            self._blocks.line(self._line)
            self._line = ""
        self._blocks.finish(cut_off=cut_off)
        self._frame(self._blocks.take_rows(), [])
        if not self._printed:
            self._write("\n")

    def _read(self, text: str) -> None:
        self._blocks.width = max(_LEAST_WIDTH, self._width())
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._blocks.line(line)

    def _frame(self, rows: list[Row], live: list[str]) -> None:
        """Replace the live rows on the screen by final ``rows`` and new ``live`` ones, in one write."""
        frame = "".join(f"{to_ansi(row)}\n" for row in rows) + "\n".join(live)
        if len(live) > 1:
            frame += f"\x1b[{len(live) - 1}A"
        if live:
            frame += "\r"
        if self._live:
            frame = _ERASE_BELOW + frame
        if self._live and live:
            frame = f"{_BEGIN_FRAME}{frame}{_END_FRAME}"
        self._live = live
        self._printed = self._printed or bool(rows)
        if frame:
            self._write(frame)


def to_ansi(row: Iterable[Cell]) -> str:
    """``row`` as text with SGR sequences."""
    groups = groupby(row, key=lambda cell: cell.style)
    return "".join(ansi("".join(cell.text for cell in cells), style) for style, cells in groups)


def _chop(row: Row, width: int) -> Iterable[Row]:
    """A code line as the terminal itself will wrap it; every other row fits already."""
    part: Row = []
    used = 0
    for cell in row:
        if used + cell.width > width:
            yield part
            part, used = [], 0
        part.append(cell)
        used += cell.width
    yield part

"""A model of a terminal for tests: pyte's, with the habits of real terminals that pyte lacks.

What is added: graphemes (pyte drops the rest of the text after a ZWJ or a variation selector),
wide characters that do not fit the last column wrap as a whole, the kernel's newline translation,
a scrollback that reads as one text with the screen, and both ways in which real terminals resize:
cutting lines off (xterm) and wrapping them anew (VTE, kitty, iTerm2, Windows Terminal).
"""

from typing import Any

import pyte
from pyte import modes
from wcwidth import iter_graphemes, wcswidth

_Line = Any  # pyte's mapping from column to character, with ``wrapped`` added to it


class _Terminal(pyte.HistoryScreen):
    def draw(self, data: str) -> None:
        for grapheme in iter_graphemes(data):
            width = wcswidth(grapheme)
            line: _Line = self.buffer[self.cursor.y]
            if width <= 0:
                if self.cursor.x:
                    last = line[self.cursor.x - 1]
                    line[self.cursor.x - 1] = last._replace(data=last.data + grapheme)
                continue
            if self.cursor.x + width > self.columns:
                if modes.DECAWM in self.mode:
                    line.wrapped = True
                    self.carriage_return()
                    self.linefeed()
                    line = self.buffer[self.cursor.y]
                    line.wrapped = False
                else:
                    self.cursor.x = self.columns - width
            line[self.cursor.x] = self.cursor.attrs._replace(data=grapheme)
            if width == 2:
                line[self.cursor.x + 1] = self.cursor.attrs._replace(data="")
            self.cursor.x += width
        self.dirty.add(self.cursor.y)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        super().erase_in_display(how, *args, **kwargs)
        if how == 0:
            for y in range(self.cursor.y, self.lines):
                line: _Line = self.buffer[y]
                line.wrapped = False


class Screen:
    """A terminal of ``columns`` × ``lines`` that is fed what a program writes to it."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.raw: Any = _Terminal(columns, lines, history=100_000, ratio=0.5)
        self._stream = pyte.Stream(self.raw)

    @property
    def columns(self) -> int:
        return int(self.raw.columns)

    @property
    def lines(self) -> int:
        return int(self.raw.lines)

    def feed(self, data: str | bytes) -> None:
        """Show ``data``; a newline also returns the carriage, as the kernel makes it."""
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        self._stream.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))

    @property
    def window(self) -> list[str]:
        """The visible rows, right-stripped."""
        return [self._text(self.raw.buffer[y]) for y in range(self.lines)]

    @property
    def scrollback(self) -> list[str]:
        """The rows that have left the window at its top, right-stripped."""
        return [self._text(line) for line in self.raw.history.top]

    @property
    def display(self) -> list[str]:
        """Scrollback and window as one text, right-stripped, without blank rows at the end."""
        rows = self.scrollback + self.window
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def state(self) -> dict[str, object]:
        """What a hostile text might change, besides the text on the screen."""
        raw = self.raw
        return {
            "title": raw.title,
            "icon": raw.icon_name,
            "modes": frozenset(raw.mode),
            "charset": (raw.charset, raw.g0_charset, raw.g1_charset),
            "margins": raw.margins,
            "tabstops": frozenset(raw.tabstops),
            "savepoints": len(raw.savepoints),
            "attributes": raw.cursor.attrs,
            "cursor hidden": raw.cursor.hidden,
            "size": (raw.columns, raw.lines),
        }

    def resize(self, columns: int, lines: int, *, reflow: bool = False) -> None:
        """Change the size as xterm does, or, with ``reflow``, wrapping long lines anew."""
        if reflow:
            self._reflow(columns)
        self._set_lines(lines)
        for y in range(lines):
            line = self.raw.buffer[y]
            for x in [x for x in line if x >= columns]:
                del line[x]
        self.raw.columns = columns
        self.raw.cursor.x = min(self.raw.cursor.x, columns - 1)
        self.raw.dirty.update(range(lines))

    def _set_lines(self, lines: int) -> None:
        raw = self.raw
        while raw.cursor.y >= lines:
            raw.history.top.append(raw.buffer[0])
            self._replace_window([raw.buffer[y] for y in range(1, raw.lines)])
            raw.cursor.y -= 1
        self._replace_window([raw.buffer[y] for y in range(min(lines, raw.lines))])
        raw.lines = lines

    def _replace_window(self, rows: list[_Line]) -> None:
        self.raw.buffer.clear()
        for y, row in enumerate(rows):
            self.raw.buffer[y] = row

    def _reflow(self, columns: int) -> None:
        raw = self.raw
        used = max([y for y, text in enumerate(self.window) if text] + [raw.cursor.y]) + 1
        rows = [*raw.history.top, *(raw.buffer[y] for y in range(used))]
        cursor_row = len(raw.history.top) + raw.cursor.y
        wrapped: list[_Line] = []
        new_row, new_column = 0, 0
        index = 0
        while index < len(rows):
            cells: list[Any] = []
            first = len(wrapped)
            offset = None
            while True:
                if index == cursor_row:
                    offset = len(cells) + raw.cursor.x
                more = getattr(rows[index], "wrapped", False)
                cells += [rows[index][x] for x in range(self._length(rows[index], full=more))]
                index += 1
                if not more or index >= len(rows):
                    break
            wrapped += self._wrap(cells, columns)
            if offset is not None:
                new_row, new_column = first + offset // columns, offset % columns
        top = max(0, min(len(wrapped) - raw.lines, new_row))
        raw.history.top.clear()
        raw.history.top.extend(wrapped[:top])
        self._replace_window(wrapped[top : top + raw.lines])
        raw.cursor.y, raw.cursor.x = new_row - top, new_column
        raw.columns = columns

    def _wrap(self, cells: list[Any], columns: int) -> list[_Line]:
        lines = [self._blank()]
        x = 0
        for position, cell in enumerate(cells):
            wide = position + 1 < len(cells) and not cells[position + 1].data
            if x + 1 + wide > columns and cell.data:
                lines[-1].wrapped = True
                lines.append(self._blank())
                x = 0
            lines[-1][x] = cell
            x += 1
        return lines

    def _blank(self) -> _Line:
        line = type(self.raw.buffer[self.lines + 1])(self.raw.default_char)
        line.wrapped = False
        return line

    def _length(self, line: _Line, *, full: bool) -> int:
        used = max((x for x in line if line[x].data != " "), default=-1) + 1
        return max(used, max(line, default=-1) + 1) if full else used

    def _text(self, line: _Line) -> str:
        return "".join(line[x].data for x in range(max(line, default=-1) + 1)).rstrip(" ")

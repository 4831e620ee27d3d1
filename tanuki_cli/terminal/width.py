"""How many cells text takes on a terminal.

A cell is one column of the screen. Kanji, kana and full-width forms take two, half-width kana and
Latin letters one, combining marks none; emoji sequences (ZWJ, VS16, skin tones, flags) take two as
a whole. Characters that Unicode calls ambiguous (①※→…) take one or two, as the terminal likes:
it is asked once, by :func:`measure_ambiguous_width`.
"""

import os
import re
import select
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wcwidth import iter_graphemes, wcswidth

from tanuki_cli.terminal.typing_ahead import Terminal, hold_typing

# Ranges in which every character is its own grapheme: ASCII, kana, kanji and full-width forms.
_SIMPLE: Final = re.compile(r"[ -~\u3001-\u3029\u3041-\u3096\u309b-\u30ff\u4e00-\u9fff\uff01-\uff60]*")
_NARROW: Final = re.compile(r"[ -~]*")
_REPORT: Final = re.compile(rb"\x1b\[\d+;(\d+)R")
_AMBIGUOUS_SAMPLE: Final = "※"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """``ambiguous_width`` is 1, 2, or None where the terminal does not tell; ``typed`` came meanwhile."""

    ambiguous_width: int | None = None
    typed: str = ""


def graphemes(text: str) -> Iterator[str]:
    """The characters of ``text`` as a reader counts them; joined they give ``text`` again."""
    return iter(text) if _SIMPLE.fullmatch(text) else iter_graphemes(text)


def cell_width(text: str, *, ambiguous: int = 1) -> int:
    """Cells that sanitised ``text`` of one line takes; ``ambiguous`` is 1 or 2."""
    if _NARROW.fullmatch(text):
        return len(text)
    return max(0, wcswidth(text, ambiguous_width=ambiguous))


def truncate_cells(text: str, cells: int, *, ambiguous: int = 1, ellipsis: str = "…") -> str:
    """``text`` shortened to at most ``cells`` cells, ``ellipsis`` included where something was cut."""
    if cell_width(text, ambiguous=ambiguous) <= cells:
        return text
    room = cells - cell_width(ellipsis, ambiguous=ambiguous)
    if room < 0:
        return ""
    kept = []
    for grapheme in graphemes(text):
        room -= cell_width(grapheme, ambiguous=ambiguous)
        if room < 0:
            break
        kept.append(grapheme)
    return "".join(kept) + ellipsis


def pad_cells(text: str, cells: int, *, ambiguous: int = 1) -> str:
    """``text`` with spaces after it, up to ``cells`` cells; longer text as it is."""
    return text + " " * (cells - cell_width(text, ambiguous=ambiguous))


def default_ambiguous_width(environ: Mapping[str, str]) -> int:
    """What to assume unmeasured: 2 under the old Japanese encodings, whose fonts were so, else 1."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    encoding = locale.partition(".")[2].lower().replace("-", "").replace("_", "")
    return 2 if encoding.startswith(("eucjp", "ujis", "sjis", "shiftjis", "cp932")) else 1


def measure_ambiguous_width(
    stream_in: Terminal, stream_out: Terminal, *, timeout: float = 0.3, among_keys: bool = False
) -> Measurement:
    """Ask the terminal how wide it draws ``※``.

    Prints the character at the start of the current line, asks for the cursor position, and wipes
    the character again. Waits at most ``timeout`` seconds. Nothing is asked when a stream is not a
    terminal; nor when keys are already waiting, unless the caller has a use for them (``among_keys``).
    """
    if sys.platform == "win32" or not (stream_in.isatty() and stream_out.isatty()):
        return Measurement()
    source, target = stream_in.fileno(), stream_out.fileno()
    if not among_keys and select.select([source], [], [], 0)[0]:
        return Measurement()
    received = bytearray()
    try:
        with hold_typing(stream_in):
            os.write(target, f"\r{_AMBIGUOUS_SAMPLE}\x1b[6n".encode())
            column = _read_column(source, received, time.monotonic() + timeout)
            os.write(target, b"\r\x1b[K")
    except OSError:
        column = 0
    width = column - 1 if column in {2, 3} else None
    return Measurement(ambiguous_width=width, typed=received.decode("utf-8", "ignore"))


def _read_column(source: int, received: bytearray, deadline: float) -> int:
    """The column of a cursor position report, 0 when none comes before ``deadline``.

    What else comes is left in ``received``; nothing is read that follows the report.
    """
    while (left := deadline - time.monotonic()) > 0 and select.select([source], [], [], left)[0]:
        piece = os.read(source, 1)
        if not piece:
            return 0
        received += piece
        if match := _REPORT.search(received):
            column = int(match[1])
            del received[match.start() :]
            return column
    return 0

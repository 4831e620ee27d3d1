"""How many cells text takes on a terminal.

A cell is one column of the screen. Kanji, kana and full-width forms take two, half-width kana and
Latin letters one, combining marks none; emoji sequences (ZWJ, VS16, skin tones, flags) take two as
a whole. Characters that Unicode calls ambiguous (①※→…) take one or two, as the terminal likes:
it is asked once, by terminal/measuring.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# Ranges in which every character is its own grapheme: ASCII, kana, kanji and full-width forms.
_SIMPLE: Final = r"[ -~\u3001-\u3029\u3041-\u3096\u309b-\u30ff\u4e00-\u9fff\uff01-\uff60]*"
_NARROW: Final = re.compile(r"[ -~]*")
_SHORT: Final = 256


def graphemes(text: str) -> Iterator[str]:
    """The characters of ``text`` as a reader counts them; joined they give ``text`` again."""
    if re.fullmatch(_SIMPLE, text):
        return iter(text)
    from wcwidth import iter_graphemes  # the tables are for those who draw

    return iter_graphemes(text)


def cell_width(text: str, *, ambiguous: int = 1) -> int:
    """Cells that sanitised ``text`` of one line takes; ``ambiguous`` is 1 or 2."""
    if _NARROW.fullmatch(text):
        return len(text)
    from wcwidth import wcswidth

    if len(text) <= _SHORT:
        return max(0, wcswidth(text, ambiguous_width=ambiguous))
    # wcswidth looks back over a whole run of flags for each of them.
    return sum(max(0, wcswidth(part, ambiguous_width=ambiguous)) for part in graphemes(text))


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


def in_columns(items: Sequence[str], *, columns: int | None) -> Iterator[str]:
    """``items`` side by side, as many as fit a window of ``columns``, padded in cells."""
    widest = max((cell_width(item) for item in items), default=0) + 2
    count = 1 if columns is None else max(1, (columns - 2) // widest)
    for start in range(0, len(items), count):
        row = items[start : start + count]
        yield "  " + "".join(pad_cells(item, widest) for item in row).rstrip()


def default_ambiguous_width(environ: Mapping[str, str]) -> int:
    """What to assume unmeasured: 2 under the old Japanese encodings, whose fonts were so, else 1."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    encoding = locale.partition(".")[2].lower().replace("-", "").replace("_", "")
    return 2 if encoding.startswith(("eucjp", "ujis", "sjis", "shiftjis", "cp932")) else 1

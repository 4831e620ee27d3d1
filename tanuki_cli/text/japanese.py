"""Japanese line breaking: kinsoku, and which line breaks of a source text join its lines.

Text is laid out as cells: a :class:`Cell` is one grapheme with its width and a style that this
module only carries along.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.style import PLAIN, Style
from tanuki_cli.text.width import cell_width, graphemes

NOT_AT_START: Final = frozenset(
    "、。，．・：；？！‼⁇⁈⁉ー々〻ゝゞヽヾ゛゜」』）］｝〕〉》】〙〗〟’”»›"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶㇰㇱㇲㇳㇴㇵㇶㇷㇸㇹㇺㇻㇼㇽㇾㇿ"
    "｡｣､･ｧｨｩｪｫｬｭｮｯｰﾞﾟ…‥〜～–％℃°,.!?:;)]}"
)
"""No line begins with these."""
NOT_AT_END: Final = frozenset("「『（［｛〔〈《【〘〖〝‘“«‹([{｢￥＄£")
"""No line ends with these."""
_SPACES: Final = frozenset(" \u3000\u200b")
_UNSPLIT: Final = frozenset("…‥―─〜")
# Compiled when they are first used, as other patterns of wide ranges are: that takes milliseconds.
# Scripts without spaces between words: a line may break between any two of their characters.
_JAPANESE: Final = (
    "[\u2e80-\u2fdf\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f"
    "\U00020000-\U0003ffff]"
)
_LETTER: Final = (
    "[々〆\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)
# A source line at least this wide that stops in mid-sentence was wrapped by its writer's editor;
# a shorter one was ended on purpose (a verse, an address, a list without markers).
_WRAPPED_AT: Final = 40


class Cell(NamedTuple):
    """One grapheme as it is drawn; ``text`` ``"\\n"`` with width 0 is a forced line break."""

    text: str
    width: int
    style: Style = PLAIN


BREAK: Final = Cell("\n", 0)


def is_japanese(char: str) -> bool:
    """Whether ``char`` is Japanese script or punctuation: no space belongs beside it."""
    return bool(re.match(_JAPANESE, char))


def to_cells(text: str, style: Style = PLAIN, *, ambiguous: int = 1) -> list[Cell]:
    """``text`` of one line, sanitised, as cells; newlines and tabs in it count as spaces."""
    clean = sanitize(text).replace("\n", " ").replace("\t", " ")
    return styled_cells([(clean, style)], ambiguous=ambiguous)


def styled_cells(pieces: Iterable[tuple[str, Style]], *, ambiguous: int = 1) -> list[Cell]:
    """Sanitised ``pieces`` of one line as cells; a grapheme that spans two has the first one's style."""
    cells: list[Cell] = []
    for text, style in pieces:
        for grapheme in graphemes(text):
            width = cell_width(grapheme, ambiguous=ambiguous)
            if width or not cells:
                cells.append(Cell(grapheme, width, style))
            else:
                last = cells[-1]
                joined = last.text + grapheme
                cells[-1] = Cell(joined, cell_width(joined, ambiguous=ambiguous), last.style)
    return cells


def width_of(cells: Iterable[Cell]) -> int:
    """The width of ``cells`` on one line."""
    return sum(cell.width for cell in cells)


def can_break(before: str, after: str) -> bool:
    """Whether a line may end with the grapheme ``before`` and the next begin with ``after``."""
    if after in _SPACES:
        return False
    if before in _SPACES:
        return after[0] not in NOT_AT_START
    if not _kinsoku_allows(before, after):
        return False
    if is_japanese(before[0]) or is_japanese(after[0]):
        return True
    return _is_pictograph(before) or _is_pictograph(after)


def _kinsoku_allows(before: str, after: str) -> bool:
    if after[0] in NOT_AT_START or before[0] in NOT_AT_END:
        return False
    return not (before in _UNSPLIT and after == before)


def _is_pictograph(grapheme: str) -> bool:
    return grapheme[0] >= "\U0001f000"


def wrap_cells(cells: Sequence[Cell], width: int) -> list[list[Cell]]:
    """Break ``cells`` into rows of at most ``width`` cells, by kinsoku.

    Every row but the last stays as it is whatever is appended later: a break depends only on what
    is before it and on the one grapheme behind it. Spaces at a break vanish.
    """
    rows: list[list[Cell]] = []
    row: list[Cell] = []
    used = 0
    for cell in cells:
        if cell.text == "\n":
            rows.append(trimmed(row))
            row, used = [], 0
            continue
        while used + cell.width > width and row and cell.text not in _SPACES:
            cut = _cut(row, cell, width)
            rows.append(trimmed(row[:cut]))
            row = row[cut:]
            used = width_of(row)
        row.append(cell)
        used += cell.width
    rows.append(row)
    return rows


def _cut(row: Sequence[Cell], following: Cell, width: int) -> int:
    """Where to break ``row``, which ``following`` does not fit behind: an index from 1 to len(row)."""
    after = following.text
    emergency = 0
    for index in range(len(row), 0, -1):
        before = row[index - 1].text
        if can_break(before, after) and _fits(row[:index], width):
            return index
        if not emergency and _kinsoku_allows(before, after) and _fits(row[:index], width):
            emergency = index
        after = before
    return emergency or _last_fitting(row, width)


def _fits(row: Sequence[Cell], width: int) -> bool:
    return width_of(trimmed(row)) <= width


def _last_fitting(row: Sequence[Cell], width: int) -> int:
    index = len(row)
    while index > 1 and not _fits(row[:index], width):
        index -= 1
    return index


def trimmed(row: Sequence[Cell]) -> list[Cell]:
    """``row`` without the spaces at its end."""
    end = len(row)
    while end and row[end - 1].text in _SPACES:
        end -= 1
    return list(row[:end])


def wrap_text(text: str, width: int, *, ambiguous: int = 1) -> list[str]:
    """Plain ``text`` as lines of at most ``width`` cells, broken by kinsoku; its newlines stay."""
    lines: list[str] = []
    for line in text.split("\n"):
        rows = wrap_cells(to_cells(line, ambiguous=ambiguous), width)
        lines += ["".join(cell.text for cell in trimmed(row)) for row in rows]
    return lines


def soft_break(before: str, width: int, after: str) -> str:
    """What a single newline in a paragraph becomes: ``""``, a space, or a line break.

    ``before`` and ``after`` are the characters around it, ``width`` the cells of the line that it
    ends. CommonMark would always join the lines. A chat model means its single newlines, so they
    are kept, except where prose was plainly wrapped by an editor: a long line that stops in
    mid-sentence. Such lines are joined, without a space between Japanese characters.
    """
    if width >= _WRAPPED_AT:
        if (re.match(_LETTER, before) or before in "、，") and re.match(_LETTER, after):
            return ""
        if before.isascii() and (before.isalnum() or before == ",") and after.isascii() and after.islower():
            return " "
    return "\n"

"""Long texts cut into parts that fit: at headings, else between paragraphs, lines, sentences."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from msgspec import Struct

_HEADING, _PARAGRAPH, _LINE, _SENTENCE, _ANYWHERE = 4, 3, 2, 1, 0
# Closing brackets and quotes after the end belong to the sentence; a dot ends one only before a blank.
_END: Final = re.compile(r"[。．！？!?｡]+[」』）)\]】〉》\"'”’]*|\.(?=\s)|\n(?:[ \t\u3000]*\n)*")
_BEFORE_HEADING: Final = re.compile(
    r"#{1,6}\s|第[0-9０-９一二三四五六七八九十百]+[章節条回部]|[■●◆◇□○▼]|[0-9０-９]+[.．]\s"
)
_LONGEST_UNIT: Final = 400
"""Characters; a longer sentence is cut anywhere."""


class Span(Struct, frozen=True):
    """A piece of a text: ``text[start:end]``."""

    start: int
    end: int


class _Unit(Struct, frozen=True):
    """The least that is kept together, how large it is, and how good a place to cut its end is."""

    end: int
    size: int
    strength: int


def split_text(text: str, *, size: Callable[[str], int], limit: int) -> list[Span]:
    """Cut ``text`` into spans of a ``size`` of at most ``limit``, which together are all of it.

    Each ends at the best place in its second half, at the last one among equals. Sizes are those of pieces:
    that of a whole may differ a little from their sum.
    """
    spans: list[Span] = []
    # A character is three tokens at most.
    units = list(_units(text, size, longest=max(min(_LONGEST_UNIT, limit // 3), 1)))
    first = start = 0
    while first < len(units):
        last = _last_that_fits(units, first, limit)
        if last + 1 < len(units):
            last = _best_cut(units, first, last)
        spans.append(Span(start, units[last].end))
        start, first = units[last].end, last + 1
    return spans


def _last_that_fits(units: Sequence[_Unit], first: int, limit: int) -> int:
    total = units[first].size
    last = first
    while last + 1 < len(units) and total + units[last + 1].size <= limit:
        last += 1
        total += units[last].size
    return last


def _best_cut(units: Sequence[_Unit], first: int, last: int) -> int:
    sizes = list(accumulate(unit.size for unit in units[first : last + 1]))
    second_half = [first + index for index, size in enumerate(sizes) if 2 * size >= sizes[-1]]
    return max(second_half, key=lambda place: (units[place].strength, place))


def _units(text: str, size: Callable[[str], int], *, longest: int) -> Iterator[_Unit]:
    start = 0
    for end, strength in _ends(text):
        while end - start > longest:
            cut = start + longest
            yield _Unit(cut, size(text[start:cut]), _ANYWHERE)
            start = cut
        if end > start:
            yield _Unit(end, size(text[start:end]), strength)
            start = end


def _ends(text: str) -> Iterator[tuple[int, int]]:
    for found in _END.finditer(text):
        if "\n" not in found[0]:
            yield found.end(), _SENTENCE
        elif _BEFORE_HEADING.match(text, found.end()):
            yield found.end(), _HEADING
        else:
            yield found.end(), _PARAGRAPH if found[0].count("\n") > 1 else _LINE
    yield len(text), _HEADING

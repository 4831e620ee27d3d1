"""Block quotes and list items: what of a line belongs to them, and what they draw before a row."""

import re
from copy import copy
from typing import Final

from msgspec import Struct

from tanuki_cli.terminal.theme import Look
from tanuki_cli.text.japanese import Cell, to_cells, width_of

Row = list[Cell]

_QUOTE: Final = re.compile(r" {0,3}> ?")
_ITEM: Final = re.compile(r" {0,3}([-+*]|(\d{1,9})([.)]))(?: {1,4}(?! )| (?= )|$)")
_LEAST_TEXT: Final = 10
"""Cells that are kept for the text however deep it is nested."""
_DEEPEST: Final = 20


class Quote(Struct):
    """A block quote."""


class Item(Struct):
    """A list item. ``indent`` counts source columns; ``marker`` is drawn before its first row."""

    indent: int
    marker: str
    number: int | None
    shown: bool = False


class Containers:
    """The quotes and list items that are open, outermost first."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._open: list[Quote | Item] = []

    def __len__(self) -> int:
        return len(self._open)

    def fork(self) -> "Containers":
        """A copy that can be opened and closed without touching this one."""
        other = copy(self)
        other._open = [copy(container) for container in self._open]
        return other

    def match(self, text: str) -> tuple[int, str]:
        """How many of them ``text`` continues, and what is left of it inside of those."""
        for depth, container in enumerate(self._open):
            text = detab(text)
            indent = len(text) - len(text.lstrip(" "))
            if isinstance(container, Quote):
                if not (match := _QUOTE.match(text)):
                    return depth, text
                text = text[match.end() :]
            elif not text.strip():
                text = ""
            elif indent >= container.indent:
                text = text[container.indent :]
            elif container.number is not None and indent >= 2 and _ITEM.match(text):
                text = text[indent:]  # two columns are meant as nesting below "1." too
            else:
                return depth, text
        return len(self._open), detab(text)

    def begin(self, text: str, depth: int, *, in_paragraph: bool) -> tuple[Quote | Item, str] | None:
        """The container that ``text`` opens inside of the first ``depth``, and the text in it."""
        if depth >= _DEEPEST:
            return None
        if match := _QUOTE.match(text):
            return Quote(), detab(text[match.end() :])
        if not (match := _ITEM.match(text)):
            return None
        rest = text[match.end() :]
        # An empty item or a number other than 1 is the text of a paragraph that goes on.
        if in_paragraph and depth == len(self._open) and not (rest.strip() and match[2] in {None, "1"}):
            return None
        indent = match.end() if rest.strip() else match.end(1) + 1
        return self._item(indent, match[2], match[3], depth), detab(rest)

    def _item(self, indent: int, digits: str | None, delimiter: str, depth: int) -> Item:
        if digits is None:
            outer = sum(isinstance(each, Item) and each.number is None for each in self._open[:depth])
            return Item(indent, self._look.bullets[outer % 2], None)
        number = int(digits)
        before = self._open[depth] if depth < len(self._open) else None
        if isinstance(before, Item) and before.number is not None and before.marker.endswith(delimiter):
            number = max(number, before.number + 1)  # "1. 1. 1." counts
        return Item(indent, f"{number}{delimiter}", number)

    def push(self, container: Quote | Item) -> None:
        """Open ``container`` inside of the others."""
        self._open.append(container)

    def pop(self) -> None:
        """Close the innermost one."""
        self._open.pop()

    def owes_marker(self) -> bool:
        """Whether the innermost one is a list item whose marker was not drawn yet."""
        last = self._open[-1] if self._open else None
        return isinstance(last, Item) and not last.shown

    def prefix(self, width: int) -> Row:
        """What stands before the next row; in narrow windows the outer levels are left out."""
        return self._joined([self._piece(each) for each in self._open], width)

    def blank_prefix(self, width: int, depth: int) -> Row:
        """What stands in a blank row inside of the first ``depth``."""
        return self._joined([self._piece(each, blank=True) for each in self._open[:depth]], width)

    def _joined(self, pieces: list[Row], width: int) -> Row:
        limit = max(width - _LEAST_TEXT, width // 2)
        while len(pieces) > 1 and sum(map(width_of, pieces)) > limit:
            pieces.pop(0)
        return [cell for piece in pieces for cell in piece]

    def mark_shown(self) -> None:
        """The next row is not the first one of any open item."""
        for container in self._open:
            if isinstance(container, Item):
                container.shown = True

    def _piece(self, container: Quote | Item, *, blank: bool = False) -> Row:
        space = Cell(" ", 1)
        if isinstance(container, Quote):
            return [Cell(self._look.lines[1], 1, self._look.theme.faint), space]
        marker = to_cells(f"{container.marker} ", self._look.theme.marker, ambiguous=self._look.ambiguous)
        return [space] * width_of(marker) if container.shown or blank else marker


def strip_markers(text: str) -> str:
    """``text`` without the quote and list markers that it begins with."""
    while match := _QUOTE.match(text) or _ITEM.match(text):
        text = text[match.end() :]
    return text


def detab(text: str) -> str:
    """``text`` with the tabs of its indentation as spaces."""
    rest = text.lstrip(" \t")
    return text[: len(text) - len(rest)].expandtabs(4) + rest

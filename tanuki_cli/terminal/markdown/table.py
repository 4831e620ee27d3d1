"""Markdown tables, laid out in cells and shrunk to the window."""

import re
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import pairwise, zip_longest
from typing import Final, Literal

from tanuki_cli.terminal.markdown.inline import inline_spans
from tanuki_cli.terminal.markdown.mathematics import INLINE
from tanuki_cli.terminal.theme import Look
from tanuki_cli.text.japanese import BREAK, Cell, to_cells, trimmed, width_of, wrap_cells
from tanuki_cli.text.style import PLAIN, Style

Row = list[Cell]
Align = Literal["left", "center", "right"]

_PIPE: Final = re.compile(r"(?<!\\)\|")
_PIPE_OR_FORMULA: Final = re.compile(rf"{INLINE.pattern}|\\\|")
_DELIMITER: Final = re.compile(r":?-+:?")
_LINE_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_SPACE: Final = Cell(" ", 1)
_NARROWEST: Final = 6
"""Cells below which no column is shrunk: a row is then shown as lines of ``name: value``."""
_LONGEST_WORD: Final = 20
"""Cells up to which a word is not cut, either; a longer one (an address) is."""


def split_row(line: str, *, columns: int | None = None) -> list[str]:
    """The cells of a table row, their source; with more than ``columns``, pipes in mathematics part none."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    cells = _PIPE.split(inner)
    if columns is not None and len(cells) > columns:
        formulas = [match.span() for match in INLINE.finditer(inner)]
        pipes = [pipe.start() for pipe in _PIPE.finditer(inner)]
        parting = [pipe for pipe in pipes if not any(start < pipe < end for start, end in formulas)]
        cells = [inner[start + 1 : end] for start, end in pairwise([-1, *parting, len(inner)])]
    return [_PIPE_OR_FORMULA.sub(_without_escape, cell.strip()) for cell in cells]


def _without_escape(match: re.Match[str]) -> str:
    return "|" if match[0] == "\\|" else match[0]


def has_pipe(line: str) -> bool:
    """Whether ``line`` could be a row of a table."""
    return bool(_PIPE.search(line))


def parse_delimiter(line: str, *, columns: int) -> list[Align] | None:
    """The alignments of a delimiter row such as ``|:--|--:|``, None when ``line`` is not one."""
    marks = split_row(line)
    if len(marks) != columns or not has_pipe(line) or not all(map(_DELIMITER.fullmatch, marks)):
        return None
    return [_alignment(mark) for mark in marks]


def _alignment(mark: str) -> Align:
    if mark.endswith(":"):
        return "center" if mark.startswith(":") else "right"
    return "left"


class Table:
    """A table while it grows. Its widths depend on every row, so its rows are final when it ends."""

    def __init__(self, header: str, aligns: Sequence[Align], look: Look) -> None:
        self._look = look
        self._aligns = aligns
        self._header = [
            self._cells(cell, Style(bold=True)) for cell in split_row(header, columns=len(aligns))
        ]
        self._natural = [_natural_width(cell) for cell in self._header]
        self._words = [_longest_word(cell) for cell in self._header]
        self._rows: list[list[Row]] = []

    def fork(self) -> "Table":
        """A copy that can grow without touching this one."""
        other = copy(self)
        other._rows, other._natural, other._words = list(self._rows), list(self._natural), list(self._words)
        return other

    def append(self, line: str) -> None:
        """Add a row; cells beyond the header's go into the last one, so that none is lost."""
        count = len(self._header)
        sources = split_row(line, columns=count)
        if len(sources) > count:
            sources[count - 1 :] = [" | ".join(sources[count - 1 :])]
        cells = [self._cells(source, PLAIN) for source in sources]
        cells += [[] for _ in range(count - len(cells))]
        self._natural = [
            max(width, _natural_width(cell)) for width, cell in zip(self._natural, cells, strict=True)
        ]
        self._words = [max(word, _longest_word(cell)) for word, cell in zip(self._words, cells, strict=True)]
        self._rows.append(cells)

    def finish(self, width: int, *, tail: int | None = None) -> list[Row]:
        """The table in at most ``width`` cells; only its last rows when ``tail`` rows suffice."""
        shown = self._rows if tail is None else self._rows[-tail:]
        widths = self._column_widths(width)
        if widths is None:
            records = [row for cells in shown for row in self._record(cells, width)]
            return [trimmed(row) for row in records[:-1]]
        blocks = [list(self._lines(cells, widths)) for cells in shown]
        rule = self._rule(widths)
        rows = [*self._lines(self._header, widths), rule] if len(shown) == len(self._rows) else []
        wrapped = any(natural > narrowed for natural, narrowed in zip(self._natural, widths, strict=True))
        for index, block in enumerate(blocks):
            if index and wrapped:
                rows.append(rule)
            rows += block
        return [trimmed(row) for row in rows]

    def _cells(self, source: str, base: Style) -> Row:
        cells: Row = []
        for span in inline_spans(source, self._look.theme, base=base):
            for index, text in enumerate(_LINE_BREAK.split(span.text)):
                if index:
                    cells.append(BREAK)
                cells += to_cells(text, span.style, ambiguous=self._look.ambiguous)
        return cells

    def _column_widths(self, width: int) -> list[int] | None:
        """Widths that fit ``width``: the widest columns give way first; None when too narrow."""
        room = width - 3 * (len(self._natural) - 1)
        least = [
            min(natural, max(_NARROWEST, min(word, _LONGEST_WORD)))
            for natural, word in zip(self._natural, self._words, strict=True)
        ]
        if sum(least) > room:
            return None
        widths = [min(natural, room) for natural in self._natural]
        while sum(widths) > room:
            widest = max(
                (index for index in range(len(widths)) if widths[index] > least[index]),
                key=widths.__getitem__,
            )
            widths[widest] -= 1
        return widths

    def _lines(self, cells: Sequence[Row], widths: Sequence[int]) -> Iterator[Row]:
        vertical = Cell(self._look.lines[1], 1, self._look.theme.faint)
        columns = [wrap_cells(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for parts in zip_longest(*columns, fillvalue=[]):
            row: Row = []
            for part, width, align in zip(parts, widths, self._aligns, strict=True):
                if row:
                    row += [_SPACE, vertical, _SPACE]
                row += _aligned(trimmed(part), width, align)
                # A first column that is empty must not be taken for "nothing before".
                row = row or [_SPACE] * width
            yield row

    def _rule(self, widths: Sequence[int]) -> Row:
        horizontal, _, crossing = (Cell(line, 1, self._look.theme.faint) for line in self._look.lines)
        row: Row = []
        for width in widths:
            if row:
                row += [horizontal, crossing, horizontal]
            row += [horizontal] * width
        return row

    def _record(self, cells: Sequence[Row], width: int) -> Iterator[Row]:
        """One row as lines of ``name: value`` and a short rule."""
        colon = to_cells(": ")
        for name, value in zip(self._header, cells, strict=True):
            yield from wrap_cells([*name, *colon, *value] if name else value, width)
        yield [Cell(self._look.lines[0], 1, self._look.theme.faint)] * min(width, _NARROWEST)


def _natural_width(cells: Row) -> int:
    return max((width_of(line) for line in wrap_cells(cells, 1 << 30)), default=0)


def _longest_word(cells: Row) -> int:
    """Cells of the longest part of a line that is nothing but narrow characters."""
    longest = word = 0
    for cell in cells:
        word = word + 1 if cell.width == 1 and not cell.text.isspace() else 0
        longest = max(longest, word)
    return longest


def _aligned(cells: Row, width: int, align: Align) -> Row:
    space = max(0, width - width_of(cells))
    before = {"left": 0, "center": space // 2, "right": space}[align]
    return [_SPACE] * before + cells + [_SPACE] * (space - before)

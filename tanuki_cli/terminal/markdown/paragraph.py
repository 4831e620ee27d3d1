"""A paragraph while it is written: settled source becomes rows, full rows become final."""

from copy import copy
from typing import Final

from tanuki_cli.terminal.markdown.inline import Span, inline_spans, optimistic, split_settled
from tanuki_cli.terminal.theme import Look
from tanuki_cli.text.japanese import BREAK, Cell, soft_break, to_cells, trimmed, width_of, wrap_cells
from tanuki_cli.text.style import PLAIN, Style

Row = list[Cell]
_SPACE: Final = Cell(" ", 1)


class Paragraph:
    """Source goes in piece by piece, rows come out once nothing that follows can change them."""

    def __init__(self, look: Look, *, base: Style = PLAIN) -> None:
        self._look = look
        self._base = base
        self._source = ""
        self._cells: Row = []
        self._soft = False
        self._line_width = 0
        self._only_line: str | None = ""  # of the source, while none of it is final

    @property
    def only_line(self) -> str | None:
        """The source, if it is one line so far and all of its rows can still change."""
        return self._only_line

    def fork(self) -> "Paragraph":
        """A copy that can be finished without touching this one."""
        other = copy(self)
        other._cells = list(self._cells)
        return other

    def append(self, source: str) -> None:
        """Add source; ``"\\n"`` in it is a line break of the source."""
        self._source += source
        if self._only_line is not None:
            self._only_line = None if "\n" in source else self._only_line + source

    def take_rows(self, width: int) -> list[Row]:
        """The rows of ``width`` cells that became final since the last call."""
        settled, self._source = split_settled(self._source)
        self._lay_out(inline_spans(settled, self._look.theme, base=self._base))
        *final, self._cells = wrap_cells(self._cells, width)
        if final:
            self._only_line = None
        return final

    def finish(self, width: int, *, cut_off: bool = False) -> list[Row]:
        """All rows that are left. In a source that was ``cut_off``, what is open counts as closed."""
        source = self._source.rstrip()
        self._lay_out(
            inline_spans(optimistic(source) if cut_off else source, self._look.theme, base=self._base)
        )
        rows = wrap_cells(self._cells, width)
        self._source, self._cells = "", []
        return [*rows[:-1], trimmed(rows[-1])] if trimmed(rows[-1]) else rows[:-1]

    def _lay_out(self, spans: list[Span]) -> None:
        for span in spans:
            if span.kind == "soft":
                self._soft = True
            elif span.kind == "hard":
                self._cells.append(BREAK)
                self._line_width = 0
            elif cells := to_cells(span.text, span.style, ambiguous=self._look.ambiguous):
                if self._soft:
                    self._resolve_soft(cells[0])
                self._cells += cells
                self._line_width += width_of(cells)

    def _resolve_soft(self, following: Cell) -> None:
        before = self._cells[-1].text if self._cells else ""
        joint = soft_break(before[:1], self._line_width, following.text[:1])
        if joint == " ":
            self._cells.append(_SPACE)
        elif joint and before != BREAK.text:
            self._cells.append(BREAK)
        self._soft, self._line_width = False, 0

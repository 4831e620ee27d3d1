"""Markdown blocks, line by line: every source line yields the rows that became final with it.

The block structure is CommonMark's, read as a stream. Nothing that a later line would reinterpret
after it was printed is supported: a line underlined with ``==`` or ``--`` is a heading if it is one row,
link references are text, and blank lines are kept where the source has them instead of loosening a whole
list. Displayed mathematics is a block, too, as it stands.
"""

import re
from copy import copy
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.terminal.markdown.containers import Containers, strip_markers
from tanuki_cli.terminal.markdown.highlight import Highlighter
from tanuki_cli.terminal.markdown.mathematics import BLOCK_BEGINNING, block_end
from tanuki_cli.terminal.markdown.paragraph import Paragraph
from tanuki_cli.terminal.markdown.table import Table, has_pipe, parse_delimiter, split_row
from tanuki_cli.terminal.theme import Look
from tanuki_cli.text.japanese import Cell, styled_cells, to_cells, trimmed, width_of
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.style import PLAIN, Style
from tanuki_cli.text.width import cell_width

Row = list[Cell]

_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE: Final = re.compile(r"( {0,3})(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*)")
_RULE: Final = re.compile(r" {0,3}([-_*])[ \t]*(?:\1[ \t]*){2,}")
_RULE_BEGINNING: Final = re.compile(r"[-_*= \t]*")
# What a line begins with that is read as a whole: heading, fence, table.
_WHOLE: Final = re.compile(rf" {{0,3}}(?:#|`{{3}}|~{{3}}|\||{BLOCK_BEGINNING})| {{4}}")
_UNDERLINE: Final = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*")


class _Mathematics(Struct, frozen=True):
    """Displayed mathematics up to the line that holds ``end``."""

    end: str


_MAX_COLUMNS: Final = 128
"""Of a table; what has more is no table that anybody could read, and stays text."""


class _Fence(Struct):
    """An open code fence."""

    mark: str
    indent: int
    highlighter: Highlighter


class BlockRenderer:
    """Rows of an answer from the lines of its source. ``width`` may change at any time."""

    def __init__(self, look: Look, *, width: int) -> None:
        self.width = width
        self._look = look
        self._containers = Containers(look)
        self._leaf: Paragraph | _Fence | Table | _Mathematics | None = None
        self._candidate: str | None = None  # a line that is a table's header if the next says so
        self._gap: int | None = None  # a blank row is owed, inside of so many containers
        self._line_open = False
        self._rows: list[Row] = []
        self._started = False
        self._optimistic = False  # take what is still open for closed where the source ends
        self._table_tail: int | None = None  # rows of a table that suffice

    def take_rows(self) -> list[Row]:
        """The rows that became final since the last call."""
        if isinstance(self._leaf, Paragraph):
            self._emit_all(self._leaf.take_rows(self._text_width()))
        rows, self._rows = self._rows, []
        return rows

    def preview(self, text: str, height: int) -> list[Row]:
        """What would follow the final rows if the source ended with ``text``, at least the last
        ``height`` rows of it. Changes nothing."""
        other = copy(self)
        other._containers = self._containers.fork()
        other._rows = []
        other._table_tail, other._optimistic = height, True
        if isinstance(self._leaf, _Fence):
            other._leaf = replace(self._leaf, highlighter=self._leaf.highlighter.fork())
        elif isinstance(self._leaf, (Paragraph, Table)):
            other._leaf = self._leaf.fork()
        if text:
            other.line(text[-self.width * height :])  # of a huge line no more than its end is seen
        if isinstance(other._leaf, _Fence):
            other._leaf = None  # its closing line would only jump about
        other.finish(cut_off=True)
        return other._rows

    def finish(self, *, cut_off: bool = False) -> None:
        """The source has ended; where it was ``cut_off``, markup that is still open counts as closed."""
        self._optimistic = cut_off
        self._close_to(0)

    def begin_line(self, text: str) -> bool:
        """Take the beginning of a line that is not complete, if it can only be a paragraph's.

        The rest is then given to :meth:`line`, or again here; otherwise the whole line is.
        """
        if self._line_open:
            self._paragraph().append(text)
            return True
        if self._candidate is not None or isinstance(self._leaf, (_Fence, Table, _Mathematics)):
            return False
        probe = strip_markers(self._containers.match(text)[1])
        # What fits one row might be the header of a table.
        if cell_width(probe) <= self.width or _WHOLE.match(probe) or _RULE_BEGINNING.fullmatch(probe):
            return False
        self.line(text)
        self._line_open = True
        return True

    def line(self, text: str) -> None:
        """The next line of the source, or the rest of it after :meth:`begin_line`."""
        if self._line_open:
            self._paragraph().append(text)
            self._line_open = False
            return
        depth, rest = self._containers.match(text)
        if isinstance(self._leaf, _Fence) and depth == len(self._containers):
            self._code_line(self._leaf, rest)
        elif not rest.strip():
            self._blank(depth)
        elif isinstance(self._leaf, _Mathematics) and depth == len(self._containers):
            self._mathematics(rest)
            if self._leaf.end in rest:
                self._leaf = None
        else:
            self._content(depth, rest)

    def _content(self, depth: int, rest: str) -> None:
        if self._candidate is not None:
            if depth == len(self._containers) and self._begin_table(rest):
                return
            self._flush_candidate()
        if depth == len(self._containers) and self._underline(rest):
            return
        continues = isinstance(self._leaf, Paragraph)
        while not _RULE.fullmatch(rest):
            begun = self._containers.begin(rest, depth, in_paragraph=continues)
            if begun is None:
                break
            container, rest = begun
            self._close_to(depth)
            self._containers.push(container)
            depth += 1
            continues = False
        if rest.strip():
            self._block(depth, rest, lazy=continues)

    def _close_to(self, depth: int) -> None:
        """Close the leaf and all containers but the first ``depth``."""
        self._close_leaf()
        while len(self._containers) > depth:
            if self._containers.owes_marker():
                self._emit([])
            self._containers.pop()
        if self._gap is not None:
            self._gap = min(self._gap, depth)

    # Leaves

    def _block(self, depth: int, rest: str, *, lazy: bool) -> None:
        """The leaf block that ``rest`` begins or continues; ``lazy``: a paragraph would go on."""
        indented = rest.startswith("    ") and not lazy
        heading, fence, rule = _HEADING.fullmatch(rest), _FENCE.fullmatch(rest), _RULE.fullmatch(rest)
        end = block_end(rest)
        displayed = end is not None and not indented
        if indented or heading or fence or rule or displayed or (depth < len(self._containers) and not lazy):
            self._close_to(depth)
        if indented:
            self._emit(self._code_cells([(sanitize(rest[4:].expandtabs(4)), self._look.theme.code)]))
        elif end is not None:
            self._mathematics(rest)
            self._leaf = _Mathematics(end) if end else None
        elif heading:
            self._heading(len(heading[1]), heading[2] or "")
        elif fence:
            self._open_fence(fence)
        elif rule:
            self._emit([Cell(self._look.lines[0], 1, self._look.theme.faint)] * self._text_width())
        elif isinstance(self._leaf, Table) and has_pipe(rest):
            self._leaf.append(rest)
        else:
            self._text(rest)

    def _text(self, rest: str) -> None:
        if isinstance(self._leaf, Table):
            self._close_leaf()
        first_column = rest.lstrip().startswith("|")
        if has_pipe(rest) and (first_column or cell_width(rest) <= self._text_width()):
            self._candidate = rest
        else:
            self._append_text(rest)

    def _append_text(self, rest: str) -> None:
        if isinstance(self._leaf, Paragraph):
            self._leaf.append("\n")
        self._paragraph().append(rest.lstrip(" \t"))

    def _paragraph(self) -> Paragraph:
        if not isinstance(self._leaf, Paragraph):
            self._leaf = Paragraph(self._look)
        return self._leaf

    def _begin_table(self, rest: str) -> bool:
        """Make the candidate a table's header if ``rest`` is the delimiter row for it."""
        header = self._candidate or ""
        columns = len(split_row(header, columns=len(split_row(rest))))
        aligns = parse_delimiter(rest, columns=columns)
        if aligns is None or columns > _MAX_COLUMNS:
            return False
        self._candidate = None
        self._close_leaf()
        self._leaf = Table(header, aligns, self._look)
        return True

    def _flush_candidate(self) -> None:
        if self._candidate is not None:
            candidate, self._candidate = self._candidate, None
            self._append_text(candidate)

    def _heading(self, level: int, source: str) -> None:
        style = self._look.theme.heading
        style = replace(style, underline=level == 1, color=style.color if level < 3 else 0)
        paragraph = Paragraph(self._look, base=style)
        paragraph.append(source)
        self._emit_all(paragraph.finish(self._text_width(), cut_off=self._optimistic))

    def _underline(self, rest: str) -> bool:
        """Make a heading of the one line of a paragraph if ``rest`` underlines it."""
        match = _UNDERLINE.fullmatch(rest)
        title = self._leaf.only_line if isinstance(self._leaf, Paragraph) else None
        if match is None or not title:
            return False
        self._leaf = None
        self._heading(1 if match[1][0] == "=" else 2, title)
        return True

    def _mathematics(self, text: str) -> None:
        """A line of displayed mathematics, as it stands."""
        self._emit(self._code_cells([(sanitize(text.expandtabs(4)), PLAIN)]))

    def _open_fence(self, match: re.Match[str]) -> None:
        indent, mark, info = match[1], match[2], sanitize(match[3].strip())
        language = info.split()[0] if info else ""
        self._leaf = _Fence(mark, len(indent), Highlighter(language, self._look.theme))
        self._emit(self._faint(mark + info))

    def _code_line(self, fence: _Fence, text: str) -> None:
        stripped = text.strip()
        if (
            len(stripped) >= len(fence.mark)
            and set(stripped) == {fence.mark[0]}
            and not text.startswith("    ")
        ):
            self._close_leaf()
            return
        indent = min(fence.indent, len(text) - len(text.lstrip(" ")))
        self._emit(self._code_cells(fence.highlighter.line(sanitize(text[indent:].expandtabs(4)))))

    def _blank(self, depth: int) -> None:
        self._close_to(depth)
        if self._started:
            self._gap = depth

    def _close_leaf(self) -> None:
        self._flush_candidate()
        leaf, self._leaf = self._leaf, None
        if isinstance(leaf, Paragraph):
            self._emit_all(leaf.finish(self._text_width(), cut_off=self._optimistic))
        elif isinstance(leaf, Table):
            self._emit_all(leaf.finish(self._text_width(), tail=self._table_tail))
        elif isinstance(leaf, _Fence):
            self._emit(self._faint(leaf.mark))

    # Rows

    def _code_cells(self, pieces: list[tuple[str, Style]]) -> Row:
        return styled_cells(pieces, ambiguous=self._look.ambiguous)

    def _faint(self, text: str) -> Row:
        return to_cells(text, self._look.theme.faint, ambiguous=self._look.ambiguous)

    def _text_width(self) -> int:
        return max(2, self.width - width_of(self._containers.prefix(self.width)))

    def _emit_all(self, rows: list[Row]) -> None:
        for row in rows:
            self._emit(row)

    def _emit(self, row: Row) -> None:
        if self._gap is not None:
            self._rows.append(trimmed(self._containers.blank_prefix(self.width, self._gap)))
            self._gap = None
        self._rows.append(trimmed([*self._containers.prefix(self.width), *row]))
        self._containers.mark_shown()
        self._started = True

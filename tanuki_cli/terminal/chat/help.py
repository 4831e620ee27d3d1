"""What ``/help`` says, as lines that fit the window."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from tanuki_cli.catalog.practice import suggestions
from tanuki_cli.i18n import N_, _, active_language
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.width import cell_width, in_columns, pad_cells

_NARROWEST_COLUMN: Final = 24

KEYS: Final[tuple[tuple[str, str], ...]] = (
    ("Enter", N_("send")),
    ("Alt-Enter", N_("break the line")),
    ("Ctrl-J", N_("break the line")),
    ("↑ ↓ Ctrl-R", N_("past input, and search in it")),
    ("Ctrl-C", N_("stop the answer; at the prompt, clear the line, twice leaves")),
    ("Ctrl-D", N_("leave")),
    ("Ctrl-X Ctrl-E", N_("edit the message in $EDITOR")),
    ("Tab", N_("complete")),
)
"""The keys of the prompt and what they do, as message ids; ``--enter newline`` swaps the first two."""


def row_lines(rows: Sequence[tuple[str, str]], *, columns: int | None, folded: bool = False) -> Iterator[str]:
    """Two columns, aligned in cells; in a window of ``columns`` the right one wraps inside its column.

    Where it would wrap in too narrow a column, it stands below the left one. ``folded`` puts the second
    half of the rows beside the first where both fit.
    """
    width = max((cell_width(left) for left, _right in rows), default=0)
    lines = [f"  {pad_cells(left, width)}  {right}" for left, right in rows]
    half = (len(lines) + 1) // 2
    first, second = (max(map(cell_width, part), default=0) for part in (lines[:half], lines[half:]))
    if columns is None:
        yield from lines
    elif folded and first + second < columns:
        for left, right in zip_longest(lines[:half], lines[half:], fillvalue=""):
            yield (pad_cells(left, first) + right).rstrip()
    else:
        below = max(first, second) > columns and columns - width - 4 < _NARROWEST_COLUMN
        for left, right in rows:
            yield from _wrapped_row(left, right, width=width, columns=columns, below=below)


def _wrapped_row(left: str, right: str, *, width: int, columns: int, below: bool) -> Iterator[str]:
    if below:
        yield f"  {left}"
        indent, head = 6, " " * 6
    else:
        indent, head = width + 4, f"  {pad_cells(left, width)}  "
    for line in wrap_text(right, columns - indent):
        yield head + line
        head = " " * indent


def help_lines(chat: Chat, commands: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The ``commands``, the keys, and for the practice model what it can be asked."""
    columns = chat.console.err.width if chat.console.err_is_terminal else None
    yield from row_lines(commands, columns=columns, folded=True)
    yield ""
    yield from row_lines(_keys(chat), columns=columns, folded=True)
    if chat.model.practice:
        yield ""
        yield _("The practice model knows for example:")
        yield from in_columns(suggestions(active_language()), columns=columns)


def _keys(chat: Chat) -> list[tuple[str, str]]:
    rows = [(key, _(summary)) for key, summary in KEYS]
    if chat.settings.enter == "newline":
        (enter, sends), (alt_enter, breaks), *others = rows
        rows = [(enter, breaks), (alt_enter, sends), *others]
    return rows

"""A whole document in Markdown: rendered and paged on a terminal, as it stands everywhere else."""

import shutil
from typing import Final

from tanuki_cli.settings.values import Settings
from tanuki_cli.terminal.answer import choose_look
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.pager import show_rows

_WIDEST: Final = 100
"""Cells of a line that is still easy to read."""


def show_document(console: Console, settings: Settings, text: str) -> None:
    """Print ``text``, Markdown of our own, on stdout. Raises ClosedPipeError."""
    if settings.plain or not console.out_can_move_cursor:
        console.write(text)
        return
    # As for an answer: a pipe must not wait for the import of a parser and a highlighter.
    from tanuki_cli.terminal.markdown.blocks import BlockRenderer
    from tanuki_cli.terminal.markdown.stream import to_ansi

    console.measure_terminal()
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    blocks = BlockRenderer(choose_look(console, settings), width=width)
    for line in text.splitlines():
        blocks.line(line)
    blocks.finish()
    show_rows(console, [to_ansi(row) for row in blocks.take_rows()])

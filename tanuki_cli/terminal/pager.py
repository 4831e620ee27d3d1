"""Text that is taller than the window, in the user's own pager."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.sanitize import sanitize

_ROWS_OF_THE_PROMPT: Final = 2
_KNOWN: Final = ("less", "more")


def show_long(console: Console, lines: Sequence[str]) -> None:
    """Print ``lines`` on stderr, also with --quiet; through ``$PAGER`` (else less) where they do not fit.

    They are taken not to be wider than the window. What was seen in the pager stays on the screen.
    """
    too_tall = len(lines) + _ROWS_OF_THE_PROMPT > console.err.height
    clean = [sanitize(line) for line in lines]
    can_page = too_tall and console.can_ask and console.err_can_move_cursor
    if not (can_page and _page(console, clean, console.streams.stderr)):
        for line in clean:
            console.err.print(line, soft_wrap=True)


def show_rows(console: Console, rows: Sequence[str]) -> None:
    """Like :func:`show_long` on stdout, for ``rows`` that were rendered for its terminal: they may hold
    SGR sequences, and nothing else that acts on a terminal."""
    too_tall = len(rows) + _ROWS_OF_THE_PROMPT > console.out.height
    can_page = too_tall and console.in_is_terminal and console.out_can_move_cursor
    if not (can_page and _page(console, rows, console.streams.stdout)):
        console.write("".join(f"{row}\n" for row in rows))


def _page(console: Console, rows: Sequence[str], stream: TextIO) -> bool:
    """Whether there is such a pager; returns when the user has left it."""
    try:
        command = shlex.split(console.environ.get("PAGER", "")) or [_KNOWN[0]]
        # In less's own prompt Japanese would be garbled.
        how_to_leave = [_("(space for more, q to go back)")] if Path(command[0]).name in _KNOWN else []
        text = "".join(f"{row}\n" for row in [*how_to_leave, *rows])
        stream.flush()
        # Ctrl-C in the pager is the pager's, but the terminal sends it to us as well.
        with on_interrupt(lambda: None), console.typed.lend():
            subprocess.run(
                command,
                input=text.encode(),
                stdout=stream,
                # What git sets: colours pass, and what was seen stays on the screen afterwards.
                env={"LESS": "RX", "LESSCHARSET": "utf-8", **console.environ},
                check=False,
            )
    except (OSError, ValueError):  # not there, or a quote without its partner
        return False
    return True

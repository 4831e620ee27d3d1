"""rich, set up for :class:`~tanuki_cli.terminal.console.Console`."""

from collections.abc import Mapping
from typing import Final, TextIO

import rich.console
import rich.theme

from tanuki_cli.errors import ClosedPipeError
from tanuki_cli.i18n import _

_STYLES: Final = {
    "note": "dim",
    "found": "bold yellow",
    "error": "bold red",
    "warning": "yellow",
    "hint": "cyan",
    "success": "green",
    "practice": "magenta",
}


class _RichConsole(rich.console.Console):
    """rich's, but a reader that went away is an error of ours; rich would end the program with 1."""

    def on_broken_pipe(self) -> None:
        """What rich calls."""
        raise ClosedPipeError(_("The reader of the output went away."))


def open_rich(
    stream: TextIO, environ: Mapping[str, str], *, color: bool, terminal: bool
) -> rich.console.Console:
    """rich on ``stream``, without markup: text from outside is none."""
    return _RichConsole(
        file=stream,
        force_terminal=terminal or color,
        color_system="auto" if color else None,
        theme=rich.theme.Theme(_STYLES, inherit=True),
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ=environ,
    )

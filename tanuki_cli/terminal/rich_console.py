"""rich, set up for :class:`~tanuki_cli.terminal.console.Console`."""

from collections.abc import Mapping
from typing import Final, TextIO

import rich.console
import rich.control
import rich.segment
import rich.theme

from tanuki_cli.errors import ClosedPipeError
from tanuki_cli.i18n import _
from tanuki_cli.terminal.live_row import BEGIN_ROW, END_ROW, WIPE_ROW

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

    def push_render_hook(self, hook: rich.console.RenderHook) -> None:
        """What rich calls when a live row begins."""
        super().push_render_hook(_FromRowStart(hook))


class _FromRowStart(rich.console.RenderHook):
    """A live row of rich's, drawn as :mod:`tanuki_cli.terminal.live_row` says."""

    def __init__(self, hook: rich.console.RenderHook) -> None:
        self._hook = hook

    def process_renderables(
        self, renderables: list[rich.console.ConsoleRenderable]
    ) -> list[rich.console.ConsoleRenderable]:
        """What rich calls whenever something is printed: the row comes after it."""
        found = self._hook.process_renderables(renderables)
        if len(found) == len(renderables):
            return found
        *printed, row = found
        return [_control(WIPE_ROW), *printed, _control(BEGIN_ROW), row, _control(END_ROW)]


def _control(sequence: str) -> rich.control.Control:
    control = rich.control.Control()
    control.segment = rich.segment.Segment(sequence, None, [(rich.segment.ControlType.CARRIAGE_RETURN,)])
    return control


def _is_usable(name: str, value: str) -> bool:
    """False for a size of the terminal that is none: rich takes 0 as it is, and prints nothing."""
    return name not in {"COLUMNS", "LINES"} or (value.isdecimal() and int(value) > 0)


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
        _environ={name: value for name, value in environ.items() if _is_usable(name, value)},
    )

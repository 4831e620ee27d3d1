"""How far work of many steps is: one live line on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.download import format_time
from tanuki_cli.text.sanitize import sanitize_line

if TYPE_CHECKING:
    from tanuki_cli.terminal.status_row import StatusRow

_INTERVAL_S: Final = 0.2


class StepProgress:
    """Shows steps done, of how many, and the time left, on stderr. Use as a context manager.

    The time left is judged by the steps that were done while it was shown: what was done before an
    interruption took no time now.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._shown_at = float("-inf")
        self._told_tenths = 0
        self._row = _open_row(console) if console.err_can_move_cursor and not console.quiet else None

    def __enter__(self) -> "StepProgress":
        if self._row is not None:
            self._row.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._row is not None:
            self._row.__exit__(kind, error, trace)

    def update(self, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total`` steps are behind us; may be called for every token."""
        now = self._clock()
        if self._first is None:
            self._first = now, done
            self._told_tenths = 10 * done // max(total, 1)
        parts = [f"{done}/{total}"]
        start, before = self._first
        if done > before:
            left = (now - start) / (done - before) * (total - done)
            parts.append(_("{time} left").format(time=format_time(left)))
        if detail:  # the last, because it may be cut off
            parts.append(sanitize_line(detail))
        if self._row is None:
            if 10 * done // max(total, 1) > self._told_tenths:
                self._told_tenths = 10 * done // max(total, 1)
                self._console.note(" · ".join(parts))
        elif now - self._shown_at >= _INTERVAL_S:
            self._shown_at = now
            self._row.update(" · ".join(parts))


def _open_row(console: Console) -> "StatusRow":
    from tanuki_cli.terminal.status_row import StatusRow  # brings rich's live rows

    return StatusRow(console.err)

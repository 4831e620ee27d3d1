"""How far a batch is, on one line; and what came of it."""

import time
from types import TracebackType

from tanuki_cli.batch.run import BatchState
from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.download import format_time
from tanuki_cli.terminal.speedometer import Speedometer
from tanuki_cli.terminal.step_progress import StepProgress


class BatchProgress:
    """Shows rows done of ``total``, failures, speed and the time left; nothing where no terminal shows it.

    Use as a context manager.
    """

    def __init__(self, console: Console, *, total: int) -> None:
        self._total = total
        self._speed = Speedometer(time.monotonic)
        shown = console.err_can_move_cursor and not console.quiet
        self._steps = StepProgress(console) if shown else None

    def __enter__(self) -> "BatchProgress":
        if self._steps is not None:
            self._steps.__enter__()
            self._steps.update(0, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._steps is not None:
            self._steps.__exit__(kind, error, trace)

    def update(self, state: BatchState) -> None:
        """May be called for every token."""
        if self._steps is None:
            return
        self._speed.add(state.tokens)
        parts = [_("{count} failed").format(count=state.failed)] if state.failed else []
        if speed := self._speed.speed:
            parts.append(_("{speed:.1f} tokens/s").format(speed=speed))
        self._steps.update(state.answered + state.failed, self._total, " · ".join(parts))


def summary(state: BatchState) -> str:
    """What a run did, in one line."""
    parts = [
        _("Answered: {answered}").format(answered=f"{state.answered:,}"),
        _("failed: {count}").format(count=f"{state.failed:,}"),
        _("time {time}").format(time=format_time(state.seconds)),
    ]
    if state.seconds > 0 and state.tokens:
        parts.insert(2, _("{speed:.1f} tokens/s").format(speed=state.tokens / state.seconds))
    return " · ".join(parts)

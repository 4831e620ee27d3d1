"""How far a download has come: one live line on a terminal, a plain line now and then elsewhere."""

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

import rich.progress

from tanuki_cli.hardware import format_bytes
from tanuki_cli.hub import Progress
from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.sanitize import sanitize

_WINDOW_S: Final = 15.0
_PLAIN_STEP: Final = 0.1
_REDRAW_S: Final = 0.1


class Speedometer:
    """Bytes per second over the last seconds, from a count that only grows."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def reset(self) -> None:
        """Start anew."""
        self._samples.clear()

    def add(self, count: int) -> None:
        """``count`` bytes have come by now."""
        now = self._clock()
        self._samples.append((now, count))
        while now - self._samples[0][0] > _WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    @property
    def speed(self) -> float | None:
        """Bytes per second; None until there is something to tell."""
        if not self._samples:
            return None
        (first, start), (last, end) = self._samples[0], self._samples[-1]
        return (end - start) / (last - first) if last > first and end > start else None


class DownloadProgress:
    """Shows what a pull reports on stderr. Use as a context manager; pass :meth:`update` to the pull."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._speedometer = Speedometer(clock)
        self._phase = ""
        self._detail = ""
        self._drawn_at = float("-inf")
        self._told_share = 0.0
        self._task: rich.progress.TaskID | None = None
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=None),
            console=console.err,
            expand=True,
            transient=True,
            disable=console.quiet or not console.err_can_move_cursor,
        )

    def __enter__(self) -> "DownloadProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def shown(self) -> bool:
        """Whether there was anything to do."""
        return self._phase != ""

    def update(self, progress: Progress) -> None:
        """Show ``progress``; called for every block that arrives."""
        if progress.phase == "waiting":
            if progress.detail != self._detail:
                self._console.note(progress.detail)
            self._detail = progress.detail
            return
        self._detail = ""
        if progress.phase != self._phase:
            self._begin(progress)
        finished = progress.files_done == progress.files_total
        if self._clock() - self._drawn_at < _REDRAW_S and not finished:
            return
        self._drawn_at = self._clock()
        received = progress.bytes_received if progress.phase == "downloading" else progress.bytes_done
        self._speedometer.add(received)
        if self._bar.disable:
            self._tell(progress)
        elif self._task is not None:
            self._bar.update(
                self._task,
                description=self._describe(progress),
                completed=progress.bytes_done,
                total=max(progress.bytes_total, 1),
            )

    def _begin(self, progress: Progress) -> None:
        self._phase = progress.phase
        self._speedometer.reset()
        self._drawn_at = float("-inf")
        self._told_share = 0.0
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("")
        sentence = _("Checking {size}.") if progress.phase == "checking" else _("Downloading {size}.")
        self._console.note(sentence.format(size=format_bytes(progress.bytes_total)))

    def _tell(self, progress: Progress) -> None:
        share = progress.bytes_done / max(progress.bytes_total, 1)
        if share >= self._told_share + _PLAIN_STEP:
            self._told_share = share - share % _PLAIN_STEP
            self._console.note(f"{share:.0%}  {self._describe(progress)}")

    def _describe(self, progress: Progress) -> str:
        """E.g. ``2/5 · 1.2 GB/4.5 GB · 35.0 MB/s · 1:35``: files, bytes, speed, time left."""
        parts = [
            f"{min(progress.files_done + 1, progress.files_total)}/{progress.files_total}",
            f"{format_bytes(progress.bytes_done)}/{format_bytes(progress.bytes_total)}",
        ]
        speed = self._speedometer.speed
        if speed is not None:
            parts.append(f"{format_bytes(speed)}/s")
            parts.append(_format_time((progress.bytes_total - progress.bytes_done) / speed))
        return sanitize(" · ".join(parts))


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

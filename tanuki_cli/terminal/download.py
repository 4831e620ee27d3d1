"""How far a download has come: one live line on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

import rich.progress
import rich.progress_bar
import rich.table
import rich.text
from rich.console import RenderableType

from tanuki_cli.hub import Progress
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.live_row import begin_row, end_row
from tanuki_cli.terminal.speedometer import Speedometer


class DownloadProgress:
    """Shows what a pull reports on stderr. Use as a context manager; pass :meth:`update` to the pull.

    On a terminal rich draws the newest state ten times a second, however often it is reported.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._speedometer = Speedometer(clock)
        self._latest: Progress | None = None
        self._detail = ""
        self._told_tenths = 0
        self._live = rich.progress.Progress(
            _Column(self._draw_text, no_wrap=True),
            _Column(self._draw_bar),
            console=console.err,
            expand=True,
            transient=True,
            disable=console.quiet or not console.err_can_move_cursor,
        )

    def __enter__(self) -> "DownloadProgress":
        begin_row(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end_row(self._live)

    def update(self, progress: Progress) -> None:
        """Show ``progress``; may be called for every block that arrives."""
        if progress.phase == "waiting":
            if progress.detail != self._detail:
                self._console.note(progress.detail)
            self._detail = progress.detail
            return
        self._detail = ""
        if self._latest is None or self._latest.phase != progress.phase:
            self._begin(progress)
        self._latest = progress
        if self._live.disable:
            self._tell(progress)

    def _begin(self, progress: Progress) -> None:
        self._speedometer.reset()
        self._told_tenths = 0
        if not self._live.tasks:
            self._live.add_task("")
        sentence = _("Checking {size}.") if progress.phase == "checking" else _("Downloading {size}.")
        self._console.note(sentence.format(size=format_bytes(progress.bytes_total)))

    def _tell(self, progress: Progress) -> None:
        """A plain line for every tenth."""
        share = progress.bytes_done / max(progress.bytes_total, 1)
        if int(share * 10) > self._told_tenths:
            self._told_tenths = int(share * 10)
            self._console.note(f"{share:.0%}  {self._describe(progress)}")

    def _draw_text(self) -> rich.text.Text:
        return rich.text.Text(self._describe(self._latest) if self._latest else "", no_wrap=True)

    def _draw_bar(self) -> rich.progress_bar.ProgressBar:
        total, done = (self._latest.bytes_total, self._latest.bytes_done) if self._latest else (1, 0)
        return rich.progress_bar.ProgressBar(total=max(total, 1), completed=done)

    def _describe(self, progress: Progress) -> str:
        """E.g. ``2/5 · 1.2 GB/4.5 GB · 35.0 MB/s · 1:35 left``: files, bytes, speed, time left."""
        self._speedometer.add(
            progress.bytes_received if progress.phase == "downloading" else progress.bytes_done
        )
        parts = [
            f"{min(progress.files_done + 1, progress.files_total)}/{progress.files_total}",
            f"{format_bytes(progress.bytes_done)}/{format_bytes(progress.bytes_total)}",
        ]
        speed = self._speedometer.speed
        if speed is not None:
            parts.append(f"{format_bytes(speed)}/s")
            left = format_time((progress.bytes_total - progress.bytes_done) / speed)
            parts.append(_("{time} left").format(time=left))
        return " · ".join(parts)


class _Column(rich.progress.ProgressColumn):
    """A column that asks for its content when it is drawn."""

    def __init__(self, draw: Callable[[], RenderableType], *, no_wrap: bool = False) -> None:
        super().__init__(table_column=rich.table.Column(no_wrap=no_wrap))  # the bar gives way first
        self._draw = draw

    def render(self, task: rich.progress.Task) -> RenderableType:
        """The content now."""
        return self._draw()


def format_time(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: ``1:35``, ``2:01:35``."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

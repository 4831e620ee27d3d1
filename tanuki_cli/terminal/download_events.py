"""A pull as JSON, one event a line: for scripts, and for a chat that watches its own download."""

import os
import select
import time
from collections.abc import Callable
from typing import Final

from tanuki_cli.errors import TanukiError
from tanuki_cli.hub import InstalledModel, Progress
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.speedometer import Speedometer

_EVERY_S: Final = 0.5


class DownloadEvents:
    """Writes ``{"event": "progress" | "ready" | "error", …}`` to stdout, progress at most twice a second.

    A reader that is busy holds nothing up: progress that its pipe has no room for is left out.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._speedometer = Speedometer(clock)
        self._phase = ""
        self._written_at = -_EVERY_S

    def update(self, progress: Progress) -> None:
        """Tell how far the pull is. Raises ClosedPipeError if the reader went away."""
        now = self._clock()
        begins = progress.phase != self._phase
        if begins:
            self._speedometer.reset()
        elif now - self._written_at < _EVERY_S:
            return
        self._phase = progress.phase
        self._speedometer.add(
            progress.bytes_received if progress.phase == "downloading" else progress.bytes_done
        )
        if self._has_room():
            self._written_at = now
            self._write("progress", _progress_fields(progress, self._speedometer.speed))

    def finish(self, installed: InstalledModel) -> None:
        """The model is whole."""
        self._write(
            "ready",
            {
                "name": installed.reference.name,
                "path": str(installed.model.path),
                "size_bytes": installed.size,
                "revision": installed.commit,
            },
        )

    def fail(self, error: TanukiError) -> None:
        """The pull ended with ``error``."""
        self._write(
            "error", {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
        )

    def _write(self, event: str, fields: dict[str, object]) -> None:
        self._console.write_json({"event": event, **fields})

    def _has_room(self) -> bool:
        if os.name != "posix":  # select knows sockets only
            return True
        return bool(select.select([], [self._console.streams.stdout], [], 0)[1])


def _progress_fields(progress: Progress, speed: float | None) -> dict[str, object]:
    left = progress.bytes_total - progress.bytes_done
    return {
        "phase": progress.phase,
        "file": progress.file,
        "files_done": progress.files_done,
        "files_total": progress.files_total,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "bytes_per_s": None if speed is None else round(speed),
        "seconds_left": None if speed is None else round(left / speed, 1),
        "detail": progress.detail,
    }

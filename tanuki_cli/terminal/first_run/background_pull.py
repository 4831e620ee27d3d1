"""A download that goes on while one chats: ``tanuki pull --json`` as a process of its own.

The pipe from it is read without waiting whenever somebody looks. It is also its lifeline: when this
process ends, however it does, the next progress the child reports finds no reader, and it ends too.
What it received stays, and the next pull resumes.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.errors import DownloadError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _, active_language
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.terminal.download import format_time

_PATIENCE_S: Final = 5.0


class PullState(Struct, frozen=True, kw_only=True):
    """The last that was heard of a download; None for what is not known yet."""

    phase: str = "starting"
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_s: float | None = None
    seconds_left: float | None = None
    detail: str = ""

    @property
    def percent(self) -> int:
        """How much is done, rounded down: 100 only when it is."""
        return self.bytes_done * 100 // self.bytes_total if self.bytes_total else 0


class BackgroundPull:
    """One download of ``name``. ``running`` until it ended; then ``error`` tells whether it failed."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.state = PullState()
        self.running = True
        self.error: DownloadError | None = None
        self._process = process
        self._ready = False
        self._unread = b""
        assert process.stdout is not None
        self._pipe = process.stdout
        os.set_blocking(self._pipe.fileno(), False)

    @classmethod
    def start(cls, name: str, *, program: Sequence[str], environ: Mapping[str, str]) -> "BackgroundPull":
        """Begin, or resume, the download of ``name`` with ``program``, which is what starts tanuki.

        Raises DownloadError if no process can be made.
        """
        try:
            process = subprocess.Popen(
                [*program, "--lang", active_language(), "pull", "--json", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(environ),
                start_new_session=True,  # the chat's Ctrl-C is not meant for it
            )
        except OSError as exc:
            raise DownloadError(
                _("The download cannot be started: {reason}").format(reason=os_reason(exc)),
                hint=f"tanuki pull {name}",
            ) from exc
        return cls(name, process)

    def poll(self) -> None:
        """Take in what the download has reported; never waits for it."""
        if not self.running:
            return
        ended = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe.fileno(), 65536):
                self._unread += data
            ended = True
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        if ended:
            self._end()

    def stop(self) -> None:
        """End it now; what was received stays for the next pull. May be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.running = False
        self._pipe.close()

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "progress":
            self.state = PullState(**{key: event[key] for key in PullState.__struct_fields__})
        elif kind == "ready":
            self._ready = True
        elif kind == "error":
            self.error = DownloadError(event["message"], hint=event["hint"])

    def _end(self) -> None:
        code = self._process.wait()
        if not self._ready and self.error is None:
            self.error = DownloadError(
                _("The download of {name} ended unexpectedly (code {code}).").format(
                    name=self.name, code=code
                ),
                hint=f"tanuki pull {self.name}",
            )
        self.stop()


def describe_pull(pull: BackgroundPull) -> list[str]:
    """What the status line says of ``pull``, the most important first."""
    state = pull.state
    if not pull.running:
        if pull.error is not None:
            return [_("the download failed (why: /model)")]
        return [_("{name} is downloaded").format(name=pull.name)]
    if state.phase == "waiting":
        return [_("download waiting: {reason}").format(reason=state.detail)]
    if not state.bytes_total:
        return [_("download starting")]
    if state.phase == "checking":
        return [_("checking {percent} %").format(percent=state.percent)]
    parts = [_("download {percent} %").format(percent=state.percent)]
    if state.seconds_left is not None:
        parts.append(_("{time} left").format(time=format_time(state.seconds_left)))
    if state.bytes_per_s is not None:
        parts.append(f"{format_bytes(state.bytes_per_s)}/s")
    return parts

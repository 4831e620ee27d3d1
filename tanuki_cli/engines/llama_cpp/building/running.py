"""Running pip and what it starts, with one line that says how far it is; what goes wrong, in one sentence."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _

# Settings of the user's pip that would install somewhere else than into the environment.
ELSEWHERE: Final = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH")
_HERE: Final = {"PIP_USER": "0"}  # not only unset: it may stand in a pip.conf, too
_TICK_S: Final = 1.0


class SetupError(EngineError):
    """What tanuki runs on could not be made or built."""


class Screen(Protocol):
    """Where the user sees what goes on."""

    def tell(self, line: str) -> None:
        """One line that stays."""

    def begin(self, title: str) -> None:
        """Something that takes a while has begun."""

    def go_on(self, line: str) -> None:
        """How far it is: in place of the last such line, where that can be."""

    def end(self) -> None:
        """It has ended."""


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. ``4:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def joined(*parts: str) -> str:
    """Those of ``parts`` that say something, on one line."""
    return "  ".join(filter(None, parts))


@dataclass(slots=True, kw_only=True)
class Command:
    """A started command, alone in its process group; its output goes to the end of ``log``."""

    process: "subprocess.Popen[bytes]"
    log: Path
    begin: int
    started: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> str:
        """What it printed so far."""
        with self.log.open("rb") as log:
            log.seek(self.begin)
            return log.read().decode("utf-8", "replace")

    def check(self) -> None:
        """Raise SetupError with the likely reason if it has failed."""
        if self.process.returncode != 0:
            raise SetupError(
                likely_reason(self.output), hint=_("The whole output is in {log}").format(log=self.log)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs commands in ``directory``, which hold the file descriptor ``lock`` while they run.

    ``screen`` shows for how long.
    """

    directory: Path
    screen: Screen
    lock: int | None = None

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], *, log: Path, variables: Mapping[str, str] | None = None
    ) -> Iterator[Command]:
        """Start ``command``; it is ended with this context, if it still runs then."""
        environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        with log.open("ab") as output:
            begin = output.tell()
            # A group of its own, so that an interrupt also ends the compilers, and only once.
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**environ, **_HERE, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if self.lock is None else (self.lock,),
            )
        try:
            yield Command(process=process, log=log, begin=begin)
        finally:
            if process.poll() is None:
                end_group(process)

    def run(
        self, title: str, command: Sequence[str], *, log: Path, beside: Callable[[], str] = lambda: ""
    ) -> None:
        """Run ``command``; ``beside`` says how something else is going meanwhile. Raises SetupError."""
        with self.started(command, log=log) as running:
            self.watch(title, running, beside)
            running.check()

    def watch(self, title: str, running: Command, beside: Callable[[], str] = lambda: "") -> None:
        """Wait for the end of ``running``, with a line that says for how long, and ``beside``."""
        self.screen.begin(title)
        started = time.monotonic()
        try:
            while True:
                self.screen.go_on(joined(f"{title}… {clock(time.monotonic() - started)}", beside()))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(timeout=_TICK_S)
                    return
        finally:
            self.screen.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose pip builds, the folder that the wheel goes ``into``, and where its output is kept."""

    python: Path
    into: Path
    log: Path


@contextlib.contextmanager
def temporary_folder(within: Path) -> Iterator[Path]:
    """A folder for a while in which programs run and libraries load: ``within``, where the system lets none
    do so in the usual place for such (mounted with noexec)."""
    usual = tempfile.gettempdir()
    forbids = os.statvfs(usual).f_flag & getattr(os, "ST_NOEXEC", 0)
    place = within if forbids else usual
    # A compiler that was killed may not be gone yet.
    with tempfile.TemporaryDirectory(prefix="tanuki-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End ``process`` and what it started: asked first, so that pip clears up behind itself.

    An interrupt meanwhile ends them at once.
    """
    try:
        _signal_group(process, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    # macOS says EPERM of a group that has ended, but was not waited for.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def likely_reason(output: str) -> str:
    """Say in one sentence why pip failed, from what it printed."""
    reasons = (
        (r"No space left on device|Disk quota exceeded", _("The disk is full.")),
        (
            r"[sS][sS][lL] module (in Python )?is not available",
            _("The packages could not be downloaded: this Python was built without its ssl module."),
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED|SSLError",
            _("The packages could not be downloaded: the server's certificate is not trusted."),
        ),
        (
            r"ProxyError|Tunnel connection failed",
            _("The packages could not be downloaded: the proxy refused the connection."),
        ),
        (
            r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Network is unreachable"
            r"|Temporary failure in name resolution|Connection aborted|IncompleteRead",
            _("The packages could not be downloaded: there is no connection to the package server."),
        ),
        (
            r"Killed signal terminated program|unable to execute command: Killed"
            r"|virtual memory exhausted|out of memory allocating",
            _("There is not enough memory to build llama.cpp."),
        ),
        (
            r"CMake Error|ninja: build stopped|Failed building wheel for llama|Failed to build llama",
            _("llama.cpp could not be built."),
        ),
        (
            r"No matching distribution found",
            _("A package that tanuki needs is not offered for this Python or machine."),
        ),
    )
    for pattern, sentence in reasons:
        if re.search(pattern, output):
            return sentence
    return _("Making the environment failed.")

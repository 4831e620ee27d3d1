"""What is done while llama.cpp is compiled: the question about the model, and its download.

The program itself asks, as it would at its first start (cli/first_model.py), and leaves the choice in a
file; the download is its own ``tanuki pull``.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.building.compiling import rough
from tanuki_cli.engines.llama_cpp.building.running import Command, Runner
from tanuki_cli.i18n import _, activate

CHOICE_FILE: Final = "TANUKI_FIRST_CHOICE_FILE"
CHOICE: Final = "TANUKI_FIRST_CHOICE"
LOG_NAME: Final = "download.log"
_TAIL: Final = 8192


class UserLeft(Exception):
    """The user wants no model."""


@dataclass(slots=True, kw_only=True)
class Meanwhile:
    """For one start of ``command``, the words after the program's name, in the folder ``cwd``."""

    command: Sequence[str]
    cwd: Path
    runner: Runner
    _choice: Mapping[str, str] = field(default_factory=dict)
    _download: Command | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def variables(self) -> dict[str, str]:
        """What the program is told of the choice when it starts at last."""
        if not self._choice:
            return {}
        return {CHOICE: self._choice["choice"], "TANUKI_LANG": self._choice["language"]}

    def ask(self, program: Path, folder: Path) -> None:
        """Ask, where the command is a chat at a terminal, and begin the download.

        Raises UserLeft, KeyboardInterrupt.
        """
        if list(self.command[:1]) != ["chat"] or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        file = folder / "first-choice.json"
        code = self._run([str(program), *self.command], {CHOICE_FILE: str(file)})
        if code in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        if code != 0 or not file.exists():
            return  # nothing to ask, or something that the start itself will say
        self._choice = json.loads(file.read_text(encoding="utf-8"))
        activate("ja" if self._choice["language"] == "ja" else "en")
        if self._choice["choice"] == "none":
            raise UserLeft
        if self._choice["choice"] in ("meanwhile", "first"):
            pull = (str(program), "pull", "--json", self._choice["model"])
            log = program.parent.parent / LOG_NAME
            self._download = self._stack.enter_context(self.runner.started(pull, log=log))

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> int:
        """The exit code of ``command``, which has the terminal, and Ctrl-C, for itself."""
        previous = signal.signal(signal.SIGINT, lambda _signum, _frame: None)
        try:
            asking = subprocess.Popen(
                command, cwd=self.cwd, env={**os.environ, **variables}, stdout=sys.stderr
            )
            try:
                return asking.wait()
            finally:
                if asking.poll() is None:  # this start is to end
                    asking.terminate()
                    asking.wait()
        finally:
            signal.signal(signal.SIGINT, previous)

    def progress(self) -> str:
        """How far the download is; empty without one."""
        if self._download is None or not (event := _last_event(self._download)):
            return ""
        if event.get("event") == "ready":
            return _("download: done")
        total = event.get("bytes_total")
        if event.get("event") != "progress" or not total:
            return ""
        line = _("download: {percent} %").format(percent=event["bytes_done"] * 100 // total)
        seconds = event.get("seconds_left")
        return (
            line if seconds is None else _("{line}, about {time} left").format(line=line, time=rough(seconds))
        )

    def finish(self) -> None:
        """Everything else is ready: wait for a download that the chat is to begin with.

        One that the practice model was to bridge goes on in the chat; where one failed, the chat tries
        again, and says why.
        """
        if self._download is not None and self._choice["choice"] == "first":
            self.runner.watch(_("Downloading the model"), self._download, self.progress)
        self.close()

    def close(self) -> None:
        """End a download that still runs; what was received is kept."""
        self._stack.close()


def _last_event(download: Command) -> Mapping[str, Any]:
    with download.log.open("rb") as log:
        log.seek(max(download.begin, log.seek(0, os.SEEK_END) - _TAIL))
        lines = log.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:  # cut off at either end, or from a library
            continue
        if isinstance(event, dict):
            return event
    return {}

"""What every check of ``tanuki doctor`` comes to, and what an installed engine says of itself."""

import json
import subprocess
import sys
from typing import Final, Literal, Protocol

from msgspec import Struct

from tanuki_cli.catalog.engines import EngineSummary
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine

Status = Literal["ok", "warn", "fail"]

_PROBE_TIMEOUT_S: Final = 120


class Check(Struct, frozen=True, kw_only=True):
    """One finding. ``name`` is the same in every language; ``fix`` is a command or a sentence."""

    name: str
    status: Status
    detail: str
    fix: str | None = None


class InstalledEngine(EngineSummary, Protocol):
    """An engine as it is installed here, which can also be tried."""

    def check(self, machine: Machine) -> Check:
        """Whether it loads, and can use the GPU where there is one."""


def probe(code: str) -> object:
    """What ``code`` prints as JSON in a Python of its own; a text says why there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _("it does not answer")
    if done.returncode < 0:
        return _("it was ended by signal {number}, perhaps because it was built for another CPU").format(
            number=-done.returncode
        )
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else "?"
    return json.loads(done.stdout.splitlines()[-1])

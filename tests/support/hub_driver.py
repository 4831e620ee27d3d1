"""Runs one pull in a process of its own, as huggingface_hub reads its environment when imported."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tanuki_cli.hub import Hub
from tanuki_cli.hub.files import Cache
from tanuki_cli.hub.records import Records

ROOT = Path(__file__).parent.parent.parent
_DRIVER = """
import json, os, sys
from pathlib import Path
from tanuki_cli.catalog import parse_reference
from tanuki_cli.errors import TanukiError
from tanuki_cli.hub import Hub
from tanuki_cli.hub.files import Cache, cache_directory
from tanuki_cli.hub.records import Records

wish = json.loads(sys.argv[1])
seen = []


def note(progress):
    seen.append(progress)
    if progress.detail:
        print(progress.detail, flush=True)


hub = Hub(
    cache=Cache(cache_directory(os.environ)),
    records=Records(Path(os.environ["TANUKI_HOME"], "state", "downloads.json")),
    offline=wish["offline"],
    waits=(0.01, 0.01, 0.01),
)
try:
    model = hub.pull(
        parse_reference(wish["name"]),
        revision=wish["revision"],
        verify=wish["verify"],
        on_progress=note,
    )
except TanukiError as exc:
    result = {"exit": int(exc.exit_code), "message": exc.message, "hint": exc.hint}
else:
    result = {"exit": 0, "path": str(model.model.path), "commit": model.commit}
result["phases"] = sorted({progress.phase for progress in seen})
result["details"] = [progress.detail for progress in seen if progress.detail]
if seen:
    last = seen[-1]
    result["last"] = [last.files_done, last.files_total, last.bytes_done, last.bytes_total]
    result["received"] = last.bytes_received
result["network"] = "huggingface_hub" in sys.modules
print(json.dumps(result))
"""


@dataclass(frozen=True)
class Outcome:
    """How a pull ended; ``network`` tells whether huggingface_hub was imported;
    ``stderr`` is what anything else than the driver printed."""

    exit: int
    path: Path | None = None
    commit: str | None = None
    message: str = ""
    hint: str = ""
    phases: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    received: int = 0
    network: bool = False
    stderr: str = ""


@dataclass(frozen=True)
class Puller:
    """A user's account with nothing in it, below ``home``, that knows the hub at ``endpoint``."""

    home: Path
    endpoint: str

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """All variables of a process of this user; none of ours leak in."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        return kept | {
            "HOME": str(self.home),
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "hf"),
            "TANUKI_HOME": str(self.home / "tanuki"),
            "TANUKI_LANG": "en",
            "PYTHONPATH": str(ROOT),
            **(extra or {}),
        }

    @property
    def cache(self) -> Cache:
        return Cache(self.home / "hf" / "hub")

    @property
    def hub(self) -> Hub:
        """The same user's hub in this process, for everything that needs no network."""
        return Hub(cache=self.cache, records=self.records, offline=True)

    @property
    def records(self) -> Records:
        return Records(self.home / "tanuki" / "state" / "downloads.json")

    def start(
        self,
        name: str,
        *,
        revision: str | None = None,
        verify: bool = False,
        offline: bool = False,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Begin a pull of ``name``."""
        wish = {"name": name, "revision": revision, "verify": verify, "offline": offline}
        return subprocess.Popen(
            [sys.executable, "-c", _DRIVER, json.dumps(wish)],
            env=self.environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def pull(self, name: str, **options: Any) -> Outcome:
        """Pull ``name`` and wait for the end; options as of :meth:`start`."""
        return outcome(self.start(name, **options))


def outcome(process: subprocess.Popen[str]) -> Outcome:
    """Wait for ``process`` and read what it reported."""
    stdout, stderr = process.communicate(timeout=120)
    assert stdout, stderr
    result = json.loads(stdout.splitlines()[-1])
    if result.get("path"):
        result["path"] = Path(result["path"])
    return Outcome(**result, stderr=stderr)

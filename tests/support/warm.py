"""The model that stays loaded, as ``tanuki ps`` tells of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support.program import run


def kept(home: Path, env: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """What ``tanuki ps`` tells of the model that is kept."""
    models: list[dict[str, Any]] = json.loads(run(home, "ps", "--json", env=env).stdout)["models"]
    return models[0] if models else None


def keeper(home: Path, env: Mapping[str, str] | None = None) -> psutil.Process:
    """The process that keeps it."""
    status = kept(home, env)
    assert status is not None
    return psutil.Process(status["pid"])

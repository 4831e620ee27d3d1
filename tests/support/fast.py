"""Which tests ``./scripts/test --fast`` leaves out: those that start programs or load
models, and slow ones.

A test is left out if it is marked ``slow``, or if its file uses what starts a process,
loads models or imports torch.
What is marked ``fast`` stays in: a few that run the real program, so that every part of it is tried.
"""

from types import ModuleType
from typing import Final

import pytest

from tests.support.lazy import Lazy

_STARTERS: Final = frozenset(
    {
        "subprocess",
        "multiprocessing.connection",
        "scripts.practice.export",
        "tests.fuzz.harness",
        "tests.support.f32",
        "tests.support.hub_driver",
        "tests.support.llama_models",
        "tests.support.model_servers",
        "tests.support.program",
        "tests.support.serving",
    }
)
_SERVERS: Final = frozenset({"llama_server", "python_server"})


def mark_slow(items: list[pytest.Item]) -> None:
    """Mark the tests to be left out as ``slow``."""
    slow_files: dict[ModuleType, bool] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("fast"):
            continue
        module = item.module
        if module not in slow_files:
            slow_files[module] = any(_is_slow(value) for value in vars(module).values())
        if slow_files[module] or _SERVERS.intersection(item.fixturenames):
            item.add_marker("slow")


def _is_slow(value: object) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ in _STARTERS
    return type(value) is Lazy or getattr(value, "__module__", None) in _STARTERS

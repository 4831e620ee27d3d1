"""How processes share the tests out: ``./scripts/test`` without arguments, or pytest with ``-n auto``.

A file goes to one of them as a whole, so that its tests run in their order and what they share is made once.
"""

from collections import Counter
from typing import Final

import pytest

from tanuki_cli.machine.hardware import Machine

MOST: Final = 8
"""More would be in each other's way: what a test starts uses all cores for itself."""
NEEDED_BYTES: Final = 2 << 30
"""Torch, a model in float32, and what a test starts."""


def processes_for(machine: Machine) -> int:
    """As many as there are cores and memory for; 0, which is pytest alone, rather than one."""
    count = min(machine.physical_cores, machine.available_ram_bytes // NEEDED_BYTES, MOST)
    return count if count > 1 else 0


def put_long_files_first(items: list[pytest.Item]) -> None:
    """Leave quick files for the end, where one that takes long would run while the others wait for it."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])

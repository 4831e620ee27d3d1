"""The suite itself: what choosing tests costs, which ones are fast, and how processes share them out."""

import subprocess
import sys
from itertools import groupby

import pytest

from tanuki_cli.machine.hardware import Machine
from tests.support.lazy import lazy_imports
from tests.support.program import ROOT
from tests.support.sharing import processes_for, put_long_files_first

with lazy_imports():
    import no_such_package  # type: ignore[import-not-found]
    from no_such_package import function

    from tests.support import screen
    from tests.support.screen import Screen

COLLECT = """
import sys
import pytest
# As where torch is not installed: an import of it fails.
sys.modules["torch"] = sys.modules["transformers"] = None
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"]))
"""


def test_collecting_needs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "error" not in done.stdout.splitlines()[-1]


def test_a_lazy_import_is_made_when_it_is_used() -> None:
    assert Screen(8, 2).display == screen.Screen(8, 2).display
    for use in (lambda: no_such_package.name, function):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            use()


def test_a_lazy_module_cannot_be_patched_by_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError):
        monkeypatch.setattr(screen, "Screen", str)


def test_a_test_that_starts_programs_is_slow(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("slow")


@pytest.mark.fast
def test_a_test_is_fast_if_it_is_marked_so(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("slow")


@pytest.mark.parametrize(
    ("cores", "gib", "count"), [(1, 100, 0), (2, 24, 2), (2, 3, 0), (16, 11, 5), (64, 500, 8)]
)
def test_as_many_processes_as_the_machine_feeds(cores: int, gib: int, count: int) -> None:
    machine = Machine(ram_bytes=gib << 30, available_ram_bytes=gib << 30, physical_cores=cores)
    assert processes_for(machine) == count


def test_the_quick_files_come_last_and_no_file_is_torn_apart(request: pytest.FixtureRequest) -> None:
    items = list(request.session.items)
    put_long_files_first(items)
    files = [(path, list(tests)) for path, tests in groupby(items, key=lambda item: item.path)]
    assert len(files) == len({path for path, _tests in files})
    slow = [sum(test.get_closest_marker("slow") is not None for test in tests) for _path, tests in files]
    assert slow == sorted(slow, reverse=True)

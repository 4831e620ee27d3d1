"""Times that something else on the machine disturbs."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest

from tanuki_cli.engines.llama_cpp.timing import Limits, Runs

if TYPE_CHECKING:
    from tanuki_cli.engines.llama_cpp.native import Context


class Script:
    """A context whose computations take what the script says, by a clock of its own."""

    max_outputs = 1

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self.now = 0.0
        self.batches = 0
        self._seconds = seconds

    def set_threads(self, threads: int) -> None:
        """Nothing depends on it."""

    def trim(self, length: int) -> bool:
        return True

    def decode(self, ids: Any, position: int, **options: Any) -> None:
        self.batches += len(ids) > 1
        self.now += self._seconds(len(ids), self.batches)


def runs(script: Script, monkeypatch: pytest.MonkeyPatch, *, budget_s: float = 20) -> Runs:
    monkeypatch.setattr(time, "perf_counter", lambda: script.now)
    monkeypatch.setattr(time, "monotonic", lambda: script.now)
    limits = Limits(should_stop=lambda: False, deadline=budget_s, report=lambda line: None)
    return Runs(cast("Context", script), limits, range(100))


def test_a_batch_that_was_disturbed_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program takes half of the machine while the first batch is computed, and the step after it."""
    script = Script(lambda size, batches: (0.2 + 0.1 * (size - 1)) * (2 if batches == 1 else 1))
    timed = runs(script, monkeypatch)
    assert timed.step(2) == pytest.approx(0.2)
    assert timed.batch(2, 5) == pytest.approx(0.6)
    assert script.batches == 2


def test_a_quiet_machine_computes_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(lambda size, batches: 0.2 + 0.1 * (size - 1))
    timed = runs(script, monkeypatch)
    timed.step(2)
    assert timed.batch(2, 5) == timed.batch(2, 5) == pytest.approx(0.6)
    assert script.batches == 1


def test_a_step_that_was_disturbed_is_mended_by_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(lambda size, batches: 0.2 + 0.1 * (size - 1) if batches else 0.4)
    timed = runs(script, monkeypatch)
    assert timed.step(2) == pytest.approx(0.4)
    timed.batch(2, 5)
    assert timed.step(2) == pytest.approx(0.2)


def test_nothing_is_repeated_where_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(lambda size, batches: 0.5 * size * (2 if batches else 1))
    timed = runs(script, monkeypatch, budget_s=8)
    timed.step(2)
    timed.batch(2, 5)
    assert script.batches == 1


def test_fast_ones_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(lambda size, batches: 0.001 * size / max(1, batches))
    timed = runs(script, monkeypatch)
    assert timed.batch(2, 6) == pytest.approx(0.002)
    assert script.batches == 3

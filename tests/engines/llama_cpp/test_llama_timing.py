"""Times that something else on the machine disturbs, and the end of the time there is."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted
from tanuki_cli.engines.llama_cpp.timing import Limits, OutOfTime, Runs


class Script:
    """A context whose computations take what the script says, by a clock of its own. Those that may be
    broken off ask a hundred times whether to go on."""

    max_outputs = 1

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self.now = 0.0
        self.batches = 0
        self.lines: list[str] = []
        self._seconds = seconds

    def set_threads(self, threads: int) -> None:
        """Nothing depends on it."""

    def trim(self, length: int) -> bool:
        return True

    def decode(
        self, ids: Any, position: int, *, outputs: int, should_stop: Callable[[], bool] | None
    ) -> None:
        self.batches += len(ids) > 1
        seconds = self._seconds(len(ids), self.batches)
        for _part in range(100):
            if should_stop is not None and should_stop():
                raise DecodeAborted
            self.now += seconds / 100


def runs(script: Script, *, budget_s: float = 20, interrupted: Callable[[], bool] = lambda: False) -> Runs:
    limits = Limits(
        deadline=budget_s, interrupted=interrupted, report=script.lines.append, clock=lambda: script.now
    )
    return Runs(cast("Context", script), limits, range(100))


def test_a_batch_that_was_disturbed_is_computed_again() -> None:
    """Another program takes half of the machine while the first batch is computed, and the step after it."""
    script = Script(lambda size, batches: (0.2 + 0.1 * (size - 1)) * (2 if batches == 1 else 1))
    timed = runs(script)
    assert timed.step(2) == pytest.approx(0.2)
    assert timed.batch(2, 5) == pytest.approx(0.6)
    assert script.batches == 2


def test_a_quiet_machine_computes_it_once() -> None:
    script = Script(lambda size, batches: 0.2 + 0.1 * (size - 1))
    timed = runs(script)
    timed.step(2)
    assert timed.batch(2, 5) == timed.batch(2, 5) == pytest.approx(0.6)
    assert script.batches == 1


def test_a_step_that_was_disturbed_is_mended_by_later_ones() -> None:
    script = Script(lambda size, batches: 0.2 + 0.1 * (size - 1) if batches else 0.4)
    timed = runs(script)
    assert timed.step(2) == pytest.approx(0.4)
    timed.batch(2, 5)
    assert timed.step(2) == pytest.approx(0.2)


def test_nothing_is_repeated_where_the_time_is_up() -> None:
    script = Script(lambda size, batches: 0.5 * size * (2 if batches else 1))
    timed = runs(script, budget_s=8)
    timed.step(2)
    timed.batch(2, 5)
    assert script.batches == 1


def test_fast_ones_are_repeated() -> None:
    script = Script(lambda size, batches: 0.001 * size / max(1, batches))
    timed = runs(script)
    assert timed.batch(2, 6) == pytest.approx(0.002)
    assert script.batches == 3


def test_a_batch_that_takes_too_long_is_broken_off_and_left_out() -> None:
    """It was expected to take half a second, and takes a minute."""
    script = Script(lambda size, batches: 0.1 if size == 1 else 60)
    timed = runs(script, budget_s=8)
    timed.step(2)
    with pytest.raises(OutOfTime):
        timed.batch(2, 5, expected_s=0.5)
    assert script.now == pytest.approx(8, abs=0.6)
    assert script.lines[-1] == "5 tokens at once, 2 threads: no time left"


def test_what_would_take_too_long_is_not_begun() -> None:
    script = Script(lambda size, batches: 1.0)
    timed = runs(script, budget_s=8)
    timed.step(2)
    with pytest.raises(OutOfTime):
        timed.batch(2, 5, expected_s=5.0)
    assert script.batches == 0


def test_a_single_step_that_takes_half_of_the_time_is_not_repeated() -> None:
    script = Script(lambda size, batches: 5.0)
    with pytest.raises(OutOfTime):
        runs(script, budget_s=8).step(2)
    assert script.now == pytest.approx(5)


def test_what_was_measured_counts_although_its_repetition_is_broken_off() -> None:
    script = Script(lambda size, batches: {0: 0.1, 1: 0.15}.get(batches, 60.0))
    timed = runs(script, budget_s=2)
    assert timed.batch(2, 5) == pytest.approx(0.15)
    assert script.batches == 2
    assert script.now == pytest.approx(2, abs=0.6)


def test_ctrl_c_is_not_the_end_of_the_time() -> None:
    script = Script(lambda size, batches: 1.0)
    with pytest.raises(DecodeAborted):
        runs(script, interrupted=lambda: script.now > 0.5).step(2)
    assert script.lines == []

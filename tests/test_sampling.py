"""Sampling options by themselves."""

import pytest

from tanuki_cli.sampling import MAX_SEED, SamplingOptions


@pytest.mark.parametrize(
    ("temperature", "greedy"), [(0.0, True), (1e-30, True), (9e-7, True), (1e-6, False), (0.5, False)]
)
def test_a_temperature_that_leaves_only_the_best_is_greedy(temperature: float, greedy: bool) -> None:
    assert SamplingOptions(temperature=temperature).greedy is greedy


def test_a_seed_is_drawn_where_none_is_given() -> None:
    assert SamplingOptions(seed=3).with_seed().seed == 3
    drawn = {SamplingOptions().with_seed().seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(seed is not None and 0 <= seed <= MAX_SEED for seed in drawn)

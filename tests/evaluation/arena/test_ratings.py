"""Ratings against independent fits, and against votes of models whose strengths are known."""

import numpy as np
import numpy.typing as npt
import pytest

from tanuki_cli.evaluation.arena.intervals import Z, drawn_strengths, groups, more_votes, spread, wilson
from tanuki_cli.evaluation.arena.ratings import (
    PRIOR_TIES,
    START,
    Tally,
    covariance,
    strengths,
    to_ratings,
)
from tests.support.simulated_votes import IndexedVote, simulated_votes

ALMOST_NO_PRIOR = 1e-6


def climbed(models: int, votes: list[IndexedVote], *, prior_ties: float = 0.0) -> npt.NDArray[np.float64]:
    """The likeliest strengths by nothing but the gradient of the sum over single votes."""
    theta = np.zeros(models)
    rows = list(votes)
    weights = [1.0] * len(votes)
    if prior_ties:
        pairs = [(first, second) for first in range(models) for second in range(first)]
        rows += [(first, second, 0.5) for first, second in pairs]
        weights += [prior_ties / (models - 1)] * len(pairs)
    first, second = (np.array([row[side] for row in rows]) for side in (0, 1))
    score, weight = np.array([row[2] for row in rows]), np.array(weights)
    rate = 2.0 / max(np.bincount(np.concatenate([first, second]), np.concatenate([weight, weight])))
    for _step in range(20_000):
        surplus = weight * (score - 1 / (1 + np.exp(theta[second] - theta[first])))
        gradient = np.bincount(first, surplus, models) - np.bincount(second, surplus, models)
        theta = theta + rate * gradient
        if np.abs(gradient).max() < 1e-9:
            break
    return theta - theta.mean()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("prior", [0.0, PRIOR_TIES])
def test_an_independent_fit_gives_the_same(seed: int, prior: float) -> None:
    rng = np.random.default_rng(seed)
    models = 2 + seed % 7
    votes = simulated_votes(rng, rng.normal(0, 0.8, models), 80 * models)
    expected = to_ratings(climbed(models, votes, prior_ties=prior))
    found = to_ratings(strengths(Tally.of(models, votes).points(), prior_ties=prior or ALMOST_NO_PRIOR))
    assert found == pytest.approx(expected, abs=1e-3)


def test_two_models_have_the_textbook_difference() -> None:
    votes = [(0, 1, 1.0)] * 64 + [(1, 0, 1.0)] * 24 + [(0, 1, 0.5)] * 12
    theta = strengths(Tally.of(2, votes).points(), prior_ties=ALMOST_NO_PRIOR)
    first, second = to_ratings(theta)
    assert first - second == pytest.approx(400 * np.log10(70 / 30), abs=1e-3)
    assert first + second == pytest.approx(2 * START)
    assert to_ratings(theta, anchor=1, anchor_rating=1200.0)[1] == 1200.0
    assert to_ratings(theta, anchor=1)[0] == pytest.approx(1000 + first - second)


def test_true_strengths_lie_in_their_intervals_as_often_as_claimed() -> None:
    """95 %, for few votes and many, close models and distant ones; within what 2,700 trials can show."""
    inside = trials = 0
    for seed, (models, count, size) in enumerate(
        [(2, 10, 1.5), (2, 30, 0.7), (3, 30, 1.0), (4, 60, 0.7), (4, 300, 0.7), (6, 1000, 0.7)] * 20
    ):
        rng = np.random.default_rng(seed)
        true = rng.normal(0, size, models)
        true -= true.mean()
        tally = Tally.of(models, simulated_votes(rng, true, count))
        theta = strengths(tally.points())
        drawn = drawn_strengths(tally, draws=200, rng=rng)
        error = np.sqrt(np.diag(spread(tally, theta, drawn)))
        inside += int((np.abs(theta - true) <= Z * error).sum())
        trials += models
    assert 0.93 < inside / trials < 0.98, f"{inside} of {trials}"


def test_the_same_seed_draws_the_same() -> None:
    tally = Tally.of(3, simulated_votes(np.random.default_rng(1), np.array([0.5, 0.0, -0.5]), 50))
    one, same, other = (
        drawn_strengths(tally, draws=50, rng=np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "votes",
    [
        [(0, 1, 1.0)] * 500,
        [(0, 1, 1.0)],
        [(0, 1, 1.0), (2, 3, 0.0)],
        [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)] * 100,
        [],
    ],
)
def test_one_sided_and_unconnected_votes_are_finite(votes: list[IndexedVote]) -> None:
    tally = Tally.of(4, votes)
    for prior in (PRIOR_TIES, ALMOST_NO_PRIOR):
        theta = strengths(tally.points(), prior_ties=prior)
        assert np.isfinite(theta).all()
        drawn = drawn_strengths(tally, draws=20, rng=np.random.default_rng(0), prior_ties=prior)
        assert np.isfinite(drawn).all()
        assert np.isfinite(spread(tally, theta, drawn, prior_ties=prior)).all()


def test_models_that_always_won_have_an_interval_of_some_width() -> None:
    tally = Tally.of(2, [(0, 1, 1.0)] * 10)
    theta = strengths(tally.points())
    cover = spread(tally, theta, drawn_strengths(tally, draws=500, rng=np.random.default_rng(0)))
    assert 30 < to_ratings(np.sqrt(np.array([0.0, cover[0, 0]])), anchor=0, anchor_rating=0)[1] < 500


def test_groups_follow_votes_through_third_models() -> None:
    tally = Tally.of(5, [(0, 1, 1.0), (2, 1, 0.5), (3, 4, 0.0)])
    assert groups(tally.points()) == [0, 0, 0, 1, 1]
    theta = strengths(tally.points())
    cover = spread(tally, theta, drawn_strengths(tally, draws=100, rng=np.random.default_rng(0)))
    assert cover == pytest.approx(covariance(tally.points(), theta))
    variance = cover[0, 0] + cover[3, 3] - 2 * cover[0, 3]
    assert Z * np.sqrt(variance) > 3, "models that nothing connects may be anywhere"


@pytest.mark.parametrize(
    ("points", "votes", "low", "high"),
    # By R's binom::binom.wilson and by hand.
    [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 100, 0.7222, 0.8749)],
)
def test_wilson(points: float, votes: int, low: float, high: float) -> None:
    share = wilson(points, votes)
    assert share.value == points / votes
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_without_votes_knows_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_the_votes_that_are_still_needed_are_enough() -> None:
    """With as many more votes as said, two such models are told apart about four times in five."""
    true = np.array([0.15, -0.15])
    rng = np.random.default_rng(3)
    chance = 1 / (1 + np.exp(-0.3))
    missing = more_votes(0.3, 0.25, chance * (1 - chance))
    had = 1 / (0.25**2 * chance * (1 - chance))
    assert missing is not None
    found = 0
    for _trial in range(100):
        tally = Tally.of(2, simulated_votes(rng, true, round(had) + missing, tie_share=0.0))
        theta = strengths(tally.points())
        cover = spread(tally, theta, drawn_strengths(tally, draws=100, rng=rng))
        found += theta[0] - theta[1] > Z * np.sqrt(cover[0, 0] + cover[1, 1] - 2 * cover[0, 1])
    assert 68 <= found <= 91
    assert more_votes(0.3, 0.1, 0.2) == 0
    assert more_votes(0.0, 0.3, 0.25) is None

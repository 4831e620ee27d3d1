"""What is said of a set of votes, and which two models are compared next."""

import math
import random

import numpy as np
import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.pairing import expected_loss, next_pair
from tanuki_cli.evaluation.arena.results import Counts, RatingOptions, evaluate
from tanuki_cli.evaluation.arena.votes import Turn, Verdict, Vote
from tests.support.simulated_votes import simulated_votes

OPTIONS = RatingOptions(bootstrap=200)


def vote(
    first: str, second: str, verdict: Verdict, category: str = "", answers: tuple[str, str] = ("", "")
) -> Vote:
    turn = Turn(question="問", answers=answers)
    return Vote(time=None, models=(first, second), verdict=verdict, turns=(turn,), category=category)


def votes(*kinds: tuple[str, str, Verdict, int]) -> list[Vote]:
    return [vote(first, second, verdict) for first, second, verdict, count in kinds for _one in range(count)]


def test_counts_ranks_and_positions() -> None:
    result = evaluate(
        votes(
            ("a", "b", "first", 40),
            ("b", "a", "second", 20),
            ("b", "a", "first", 5),
            ("a", "b", "tie", 8),
            ("b", "a", "both-bad", 4),
            ("a", "b", "skip", 3),
        ),
        OPTIONS,
    )
    best, worst = result.rating.standings
    assert (best.model, best.rank, worst.model, worst.rank) == ("a", 1, "b", 2)
    assert best.counts == Counts(wins=60, losses=5, ties=8, both_bad=4)
    assert worst.counts == Counts(wins=5, losses=60, ties=8, both_bad=4)
    assert best.as_first == Counts(wins=40, ties=8)
    assert best.as_second == Counts(wins=20, losses=5, both_bad=4)
    assert best.counts.share.value == pytest.approx(66 / 77)
    assert result.position == Counts(wins=45, losses=20, ties=8, both_bad=4)
    assert (result.votes, result.skipped) == (77, 3)
    (pair,) = result.rating.comparisons
    assert pair.models == ("a", "b")
    assert pair.told_apart
    assert pair.low < pair.difference < pair.high
    assert pair.difference == pytest.approx(best.rating - worst.rating)
    assert best.rating + worst.rating == pytest.approx(2000)
    assert result.categories == ()


def test_votes_that_do_not_tell_models_apart_say_how_many_more_would() -> None:
    (close,) = evaluate(votes(("a", "b", "first", 11), ("b", "a", "first", 9)), OPTIONS).rating.comparisons
    assert not close.told_apart
    assert close.more_votes is not None
    # For 55 %: (1.96 + 0.84)² · 0.25 / 0.05² in all, less the 20 there are; the prior makes it a few more.
    assert 700 < close.more_votes < 900
    (equal,) = evaluate(votes(("a", "b", "first", 5), ("b", "a", "first", 5)), OPTIONS).rating.comparisons
    assert equal.more_votes is None
    assert not equal.told_apart


def test_unconnected_models_are_never_told_apart() -> None:
    result = evaluate(votes(("a", "b", "first", 50), ("c", "d", "first", 50)), OPTIONS)
    assert all(math.isfinite(one.rating) for one in result.rating.standings)
    told = {pair.models: pair.told_apart for pair in result.rating.comparisons}
    assert told[("a", "b")]
    assert told[("c", "d")]
    assert not any(apart for models, apart in told.items() if models not in {("a", "b"), ("c", "d")})


def test_the_anchor_has_its_rating_and_no_interval() -> None:
    ballots = votes(("a", "b", "first", 30), ("b", "a", "first", 10), ("b", "c", "first", 20))
    free = evaluate(ballots, OPTIONS).rating.standings
    held = evaluate(ballots, RatingOptions(bootstrap=200, anchor="b", anchor_rating=1200.0)).rating.standings
    anchor = next(one for one in held if one.model == "b")
    assert (anchor.low, anchor.rating, anchor.high) == (1200.0, 1200.0, 1200.0)
    assert [one.model for one in free] == [one.model for one in held]
    assert held[0].rating - anchor.rating == pytest.approx(free[0].rating - free[1].rating)
    with pytest.raises(InputError, match="a, b, c"):
        evaluate(ballots, RatingOptions(anchor="d"))


def test_categories_are_rated_on_their_own() -> None:
    ballots = [vote("a", "b", "first", "数学")] * 20 + [vote("a", "b", "second", "作文")] * 20
    result = evaluate(ballots, OPTIONS)
    assert {name: rating.standings[0].model for name, rating in result.categories} == {
        "作文": "b",
        "数学": "a",
    }
    assert result.rating.comparisons[0].more_votes is None


def test_style_control_rates_what_is_left_without_it() -> None:
    long, short = "長い" * 400, "短い" * 20
    ballots = [vote("a", "b", "first", answers=(long, short))] * 25
    ballots += [vote("b", "a", "second", answers=(short, long))] * 20
    ballots += [vote("a", "b", "second", answers=(long, short))] * 15
    ballots += [vote("a", "b", "first", answers=(short, long))] * 10
    ballots += [vote("a", "b", "second", answers=(short, long))] * 20
    plain = evaluate(ballots, OPTIONS).rating
    styled = evaluate(ballots, RatingOptions(bootstrap=200, style_control=True)).rating
    assert plain.effects == ()
    assert styled.effects[0].feature == "length"
    assert styled.effects[0].low > 0
    assert styled.comparisons[0].difference < plain.comparisons[0].difference / 2


def test_the_same_votes_and_seed_give_the_same_figures() -> None:
    ballots = votes(("a", "b", "first", 6), ("c", "b", "tie", 5), ("c", "a", "second", 4))
    assert evaluate(ballots, OPTIONS) == evaluate(ballots, OPTIONS)


@pytest.mark.parametrize("ballots", [[], votes(("a", "b", "skip", 3))])
def test_without_votes_there_is_nothing_to_rate(ballots: list[Vote]) -> None:
    with pytest.raises(InputError, match="no votes"):
        evaluate(ballots, OPTIONS)


def test_a_single_vote_has_a_result() -> None:
    (pair,) = evaluate(votes(("a", "b", "first", 1)), OPTIONS).rating.comparisons
    assert pair.difference > 0
    assert not pair.told_apart
    assert math.isfinite(pair.high)


@pytest.mark.parametrize(("difference", "error"), [(0.0, 1.0), (0.7, 0.5), (-2.0, 1.0), (3.0, 0.4)])
def test_the_expected_loss_is_the_mean_it_says_it_is(difference: float, error: float) -> None:
    draws = np.random.default_rng(0).normal(abs(difference), error, 400_000)
    assert expected_loss(difference, error) == pytest.approx(np.maximum(0, -draws).mean(), abs=2e-3)


def test_models_that_were_not_compared_come_first() -> None:
    pairs = {(0, 1), (0, 2), (1, 2)}
    many = simulated_votes(np.random.default_rng(0), np.array([0.2, -0.2]), 60)
    assert 2 in next_pair(3, many, among=pairs, rng=random.Random(0))
    assert {next_pair(3, [], among=pairs, rng=random.Random(seed)) for seed in range(30)} == pairs
    assert next_pair(3, many, among={(0, 1)}, rng=random.Random(0)) == (0, 1)


def test_no_pair_takes_all_the_votes_and_close_ones_take_more() -> None:
    """Models 0 and 1 are equal, 2 is far below: the order of the first two is the open question."""
    true = np.array([0.5, 0.5, -2.0])
    rng = np.random.default_rng(4)
    chosen: list[tuple[int, int, float]] = []
    asked = {(0, 1): 0, (0, 2): 0, (1, 2): 0}
    for _vote in range(120):
        pair = next_pair(3, chosen, among=asked, rng=random.Random(1))
        asked[pair] += 1
        chance = 1 / (1 + np.exp(true[pair[1]] - true[pair[0]]))
        chosen.append((*pair, float(rng.random() < chance)))
    assert asked[(0, 1)] > 60
    assert asked[(0, 2)] + asked[(1, 2)] >= 5

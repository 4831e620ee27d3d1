"""Guessing from the text so far: what is guessed, and when a guess is worth checking."""

from collections.abc import Mapping
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.bench_drafts import drafts
from tanuki_cli.engines.llama_cpp.drafting import (
    CPU_COSTS,
    GPU_COSTS,
    KEY_LENGTHS,
    LENGTHS,
    MAX_MATCH,
    DraftPolicy,
    Guess,
    NgramIndex,
)


def slow_guess(ids: list[int]) -> Guess | None:
    """The same by looking at every place, newest first, once for each length that counts."""
    for least in KEY_LENGTHS:
        for start in range(len(ids) - 1, least - 1, -1):
            match = 0
            while match < min(start, MAX_MATCH) and ids[start - 1 - match] == ids[-1 - match]:
                match += 1
            if match >= least:
                return Guess(start, match)
    return None


@given(st.lists(st.integers(0, 2), max_size=90), st.integers(0, 90))
def test_guess_is_the_newest_earlier_occurrence_of_as_much_as_counts(ids: list[int], split: int) -> None:
    index = NgramIndex(ids[:split])
    for id_ in ids[split:]:
        index.append(id_)
    assert index.ids == ids
    assert index.guess() == slow_guess(ids)


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), max_size=60))
def test_an_index_that_grows_is_as_one_made_anew(early: list[int], late: list[int]) -> None:
    index = NgramIndex(early)
    assert index.grow_to(late) == (late[: len(early)] == early)
    expected = late if late[: len(early)] == early else early
    assert index.ids == expected
    assert index.guess() == NgramIndex(expected).guess()


def test_a_longer_occurrence_is_taken_before_a_newer_one() -> None:
    early = [*range(100, 120), 1, 2, 3]
    guess = NgramIndex([*early, 50, 1, 2, 3, 60, *early]).guess()
    assert guess == Guess(len(early), len(early))


def test_draft_follows_the_earlier_text_and_repeats_a_period() -> None:
    index = NgramIndex([1, 2, 3, 4, 5, 6, 1, 2, 3])
    guess = index.guess()
    assert guess == Guess(3, 3)
    assert index.draft(guess, 5) == [4, 5, 6, 1, 2]
    index = NgramIndex([7, 8, 7, 8, 7, 8])
    guess = index.guess()
    assert guess is not None
    assert index.draft(guess, 7) == [7, 8, 7, 8, 7, 8, 7]


def test_nothing_repeated_nothing_guessed() -> None:
    assert NgramIndex([]).guess() is None
    assert NgramIndex([1, 2, 3]).guess() is None
    assert NgramIndex(range(100)).guess() is None


def test_long_matches_are_drafted_and_short_ones_are_not_on_a_slow_machine() -> None:
    policy = DraftPolicy()
    assert policy.choose(None, room=100) == 0
    assert policy.choose(Guess(9, 3), room=100) == 0
    assert policy.choose(Guess(99, 40), room=100) >= 15
    assert policy.choose(Guess(99, 40), room=0) == 0
    assert DraftPolicy(costs=GPU_COSTS).choose(Guess(9, 3), room=100) > 0


def test_policy_follows_the_costs_and_learns_from_failures() -> None:
    guess = Guess(99, 20)
    assert DraftPolicy().choose(guess, room=100) > 0
    # A machine on which a batch takes as long as its ids one by one.
    assert DraftPolicy(costs={size + 1: size + 1.0 for size in LENGTHS}).choose(guess, room=100) == 0
    # Lengths that were not measured are not used.
    assert DraftPolicy(costs={1: 1.0, 5: 1.5}).choose(guess, room=100) == 4
    policy = DraftPolicy()
    for _trial in range(20):
        policy.record_hits(guess, 16, 0)
    assert policy.choose(guess, room=100) == 0
    for _trial in range(20):
        policy.record_hits(guess, 16, 16)
    assert policy.choose(guess, room=100) > 0


FRESH = range(10_000, 20_000)
FILE = range(1000, 1400)


def misleading(rounds: int) -> list[int]:
    """Quotes of FILE, each long enough to be believed and then going on in its own way."""
    fresh = iter(FRESH)
    parts = [[*FILE[place : place + 45], *(next(fresh) for _id in range(20))] for place in range(rounds)]
    return [id_ for part in parts for id_ in part]


@pytest.mark.parametrize("costs", [CPU_COSTS, GPU_COSTS], ids=["cpu", "gpu"])
@pytest.mark.parametrize("rounds", [1, 2, 3, 10])
def test_drafts_return_in_a_text_that_repeats_late(costs: Mapping[int, float], rounds: int) -> None:
    policy, early = DraftPolicy(costs=costs), misleading(rounds)
    found = list(drafts(policy, FILE, [*early, *FILE]))
    assert any(draft.hits < draft.length for draft in found if draft.place < len(early))
    # Once the text really repeats, most of what is left of it is drafted.
    assert sum(draft.hits for draft in found if draft.place >= len(early)) > len(FILE) / 2


@given(st.integers(0, 50), st.sampled_from([CPU_COSTS, GPU_COSTS]))
def test_however_often_drafts_failed_a_few_good_guesses_bring_them_back(
    misses: int, costs: Mapping[int, float]
) -> None:
    policy = DraftPolicy(costs=costs)
    for _miss in range(misses):
        policy.record_hits(Guess(99, 20), 31, 0)
    text = NgramIndex([*FILE, *FILE[:MAX_MATCH]])
    for place in count(MAX_MATCH):
        guess = text.guess()
        assert guess is not None
        if policy.choose(guess, room=100):
            break
        policy.watch(guess, text)
        text.append(FILE[place])
        policy.see(FILE[place])
    assert place - MAX_MATCH <= 16


def test_what_is_drafted_depends_on_the_text_alone() -> None:
    text = [*misleading(3), *FILE]
    used = DraftPolicy()
    first = list(drafts(used, FILE, text))
    list(drafts(used, FILE, misleading(12)))
    assert list(drafts(used, FILE, text)) == first == list(drafts(DraftPolicy(), FILE, text))


def test_short_drafts_pay_where_they_cost_little() -> None:
    cheap = DraftPolicy(costs={size: 1.0 + size / 100 for size in (1, *(length + 1 for length in LENGTHS))})
    assert 0 < cheap.choose(Guess(9, 4), room=2) <= 2
    assert DraftPolicy().choose(Guess(9, 4), room=2) == 0


def test_a_greedy_answer_drafts_little_and_stops_when_near_ties_cost_more() -> None:
    long, short = Guess(99, MAX_MATCH), Guess(9, 4)
    policy = DraftPolicy(costs=GPU_COSTS)
    policy.start(greedy=True)
    assert policy.choose(long, room=100) == LENGTHS[-1]
    assert policy.choose(short, room=100) == 0
    policy.record_hits(long, LENGTHS[-1], LENGTHS[-1])
    policy.record_settled(100)
    assert policy.choose(long, room=100) == 0
    # Of answers that draw by chance nothing is ever computed again, and their drafts depend on them alone.
    policy.start()
    assert policy.choose(long, room=100) == LENGTHS[-1]
    assert policy.choose(short, room=100) > 0
    tried = 0
    while not policy.choose(long, room=100) or not tried:
        policy.start(greedy=True)
        tried += 1
    assert 2 < tried < 100

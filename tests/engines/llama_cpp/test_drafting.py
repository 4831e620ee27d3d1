"""Guessing from the text so far: what is guessed, and when a guess is worth checking."""

from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.engines.llama_cpp.drafting import (
    GPU_COSTS,
    KEY_LENGTH,
    LENGTHS,
    MAX_MATCH,
    DraftPolicy,
    Guess,
    NgramIndex,
    expected_hits,
)


def slow_guess(ids: list[int]) -> Guess | None:
    """The same by looking at every place, newest first."""
    for start in range(len(ids) - 1, KEY_LENGTH - 1, -1):
        match = 0
        while match < min(start, MAX_MATCH) and ids[start - 1 - match] == ids[-1 - match]:
            match += 1
        if match >= KEY_LENGTH:
            return Guess(start, match)
    return None


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 60))
def test_guess_is_the_newest_earlier_occurrence(ids: list[int], split: int) -> None:
    index = NgramIndex(ids[:split])
    for id_ in ids[split:]:
        index.append(id_)
    assert index.ids == ids
    assert index.guess() == slow_guess(ids)


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
    assert policy.choose(Guess(99, 40), room=100) >= 16
    assert policy.choose(Guess(99, 40), room=3) == 0
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


def test_expected_hits_grow_with_match_and_length() -> None:
    assert expected_hits(3, 1) == 4 / 5
    assert expected_hits(10, 16) > expected_hits(5, 16) > expected_hits(5, 8)

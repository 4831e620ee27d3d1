"""What every model of token ids relies on."""

import random
from collections.abc import Callable, Sequence

import pytest

from tanuki_cli.engines.token_model import shared_prefix

Kind = Callable[[list[int]], Sequence[int]]


@pytest.mark.parametrize("kinds", [(list, list), (tuple, tuple), (list, tuple)])
def test_what_two_prompts_share_ends_at_the_first_difference(kinds: tuple[Kind, Kind]) -> None:
    chance = random.Random(0)
    for _case in range(2000):
        one, other = (kind([chance.randrange(2) for _id in range(chance.randrange(12))]) for kind in kinds)
        pairs = zip(one, other, strict=False)
        expected = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
        assert shared_prefix(one, other) == expected

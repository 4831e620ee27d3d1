"""Which two models to compare next: those whose order is the least certain.

The measure is what an order taken from the votes so far may be expected to lose: with a difference ``d``
of strengths and its standard error ``s``, the mean of max(0, -x) for x normal around |d|. It is large
where little is known, and gets smaller with votes also where two models are equally good; so no pair
takes all the votes.
"""

import math
import random
from collections.abc import Collection, Sequence

import numpy as np

from tanuki_cli.evaluation.arena.ratings import PRIOR_TIES, Tally, covariance, strengths


def next_pair(
    models: int,
    votes: Sequence[tuple[int, int, float]],
    *,
    among: Collection[tuple[int, int]],
    rng: random.Random,
) -> tuple[int, int]:
    """The pair of ``among`` (lower index first) to compare next; equals are drawn by ``rng``."""
    points = Tally.of(models, votes).points()
    theta = strengths(points, prior_ties=PRIOR_TIES)
    cover = covariance(points, theta, prior_ties=PRIOR_TIES)

    def loss(pair: tuple[int, int]) -> float:
        first, second = pair
        variance = cover[first, first] + cover[second, second] - 2 * cover[first, second]
        return expected_loss(float(theta[first] - theta[second]), math.sqrt(max(float(variance), 1e-12)))

    losses = {pair: loss(pair) for pair in sorted(among)}
    most = max(losses.values())
    return rng.choice([pair for pair, value in losses.items() if np.isclose(value, most, rtol=1e-6)])


def expected_loss(difference: float, error: float) -> float:
    """The mean of max(0, -x) for x normal with mean ``abs(difference)`` and deviation ``error``."""
    ratio = abs(difference) / error
    density = math.exp(-ratio * ratio / 2) / math.sqrt(2 * math.pi)
    return error * (density - ratio * 0.5 * math.erfc(ratio / math.sqrt(2)))

"""Votes between models whose true strengths are known."""

import numpy as np
import numpy.typing as npt

IndexedVote = tuple[int, int, float]


def simulated_votes(
    rng: np.random.Generator, true: npt.NDArray[np.float64], count: int, *, tie_share: float = 0.2
) -> list[IndexedVote]:
    """``count`` votes on pairs drawn at random; the expected score is that of Bradley and Terry.

    ``true`` is in nats. Where one model is nearly sure to win there are fewer ties than ``tie_share``.
    """
    votes = []
    for _vote in range(count):
        first, second = map(int, rng.choice(len(true), 2, replace=False))
        chance = 1 / (1 + np.exp(true[second] - true[first]))
        ties = min(tie_share, 2 * chance, 2 * (1 - chance))
        won = float(rng.random() < (chance - ties / 2) / (1 - ties))
        score = 0.5 if rng.random() < ties else won
        votes.append((first, second, score))
    return votes

"""How far figures from votes may be off: by drawing the votes anew, and Wilson's interval for shares.

An interval of a rating is the estimate ± 1.96 standard deviations of the ratings of the votes drawn anew.
A set in which one side won every time would be drawn the same way each time; so :data:`UNSEEN` of a win
and of a loss is added to what is drawn from, for every pair that was compared. With it 95 % intervals held
the true rating in 93 to 97 % of simulated sets of 5 to 300 votes; percentiles without it in 80 to 95 %.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.evaluation.arena.ratings import PRIOR_TIES, Floats, Tally, covariance, strengths

CONFIDENCE: Final = 0.95
Z: Final = 1.959964
UNSEEN: Final = 0.5

_Z_OF_POWER: Final = 0.841621
"""A difference that is there is then found four times in five."""
_MATRIX_CELLS: Final = 2_000_000
MOST_VOTES_SAID: Final = 100_000


class Share(Struct, frozen=True, kw_only=True):
    """A share of votes with the bounds of its interval."""

    value: float
    low: float
    high: float


def wilson(points: float, votes: int) -> Share:
    """The share ``points / votes`` with Wilson's interval; ``points`` may hold halves, from ties.

    Ties make the share surer than the interval says. Nothing is known without votes: 0 to 1.
    """
    if votes == 0:
        return Share(value=math.nan, low=0.0, high=1.0)
    share, z2 = points / votes, Z * Z
    centre = (share + z2 / (2 * votes)) / (1 + z2 / votes)
    half = Z / (1 + z2 / votes) * math.sqrt(share * (1 - share) / votes + z2 / (4 * votes * votes))
    return Share(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


def with_unseen(tally: Tally) -> tuple[Tally, Floats]:
    """``tally`` with a kind for a win and a loss of every pair in it, and what each kind weighs in a draw."""
    pairs = np.unique(np.sort(np.stack([tally.first, tally.second], axis=1), axis=1), axis=0)
    first, second = np.repeat(pairs, 2, axis=0).T
    wider = replace(
        tally,
        first=np.concatenate([tally.first, first]),
        second=np.concatenate([tally.second, second]),
        score=np.concatenate([tally.score, np.tile([1.0, 0.0], len(pairs))]),
        count=np.concatenate([tally.count, np.zeros(2 * len(pairs), dtype=np.int64)]),
    )
    return wider, np.concatenate([tally.count.astype(np.float64), np.full(2 * len(pairs), UNSEEN)])


def redraw(weights: Floats, votes: int, draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Counts of ``draws`` sets of ``votes`` votes, each kind as likely as it weighs."""
    return rng.multinomial(votes, weights / weights.sum(), size=draws)


def drawn_strengths(
    tally: Tally, *, draws: int, rng: np.random.Generator, prior_ties: float = PRIOR_TIES
) -> Floats:
    """The strengths of ``draws`` redrawn sets of votes, shape (draws, models)."""
    wider, weights = with_unseen(tally)
    if not tally.total:
        return np.zeros((draws, tally.models))
    at_once = max(1, _MATRIX_CELLS // tally.models**2)
    return np.concatenate(
        [
            strengths(
                wider.points(redraw(weights, tally.total, min(at_once, draws - start), rng)),
                prior_ties=prior_ties,
            )
            for start in range(0, draws, at_once)
        ]
    )


def groups(points: Floats) -> list[int]:
    """For every model the group that votes connect it with, however indirectly; numbered from 0."""
    models = len(points)
    group = [-1] * models
    for start in range(models):
        if group[start] >= 0:
            continue
        number, waiting = max(group) + 1, [start]
        while waiting:
            model = waiting.pop()
            if group[model] < 0:
                group[model] = number
                waiting += [other for other in range(models) if points[model, other] + points[other, model]]
    return group


def spread(tally: Tally, theta: Floats, drawn: Floats, *, prior_ties: float = PRIOR_TIES) -> Floats:
    """The covariance of the strengths, from the redrawn ones.

    Where no votes connect some models, redrawing cannot tell how far apart they may be: there the wide
    bounds that the prior alone gives are taken.
    """
    if tally.models < 2:
        return np.zeros((tally.models, tally.models))
    if len(drawn) > 1 and len(set(groups(tally.points()))) == 1:
        return np.asarray(np.cov(drawn, rowvar=False), dtype=np.float64)
    return covariance(tally.points(), theta, prior_ties=prior_ties)


def more_votes(difference: float, error: float, variance: float) -> int | None:
    """About how many more votes on two models would tell them apart, if they differ as it seems now.

    ``difference`` of their strengths and its standard ``error`` are in nats, ``variance`` is that of one
    vote's points between them. 0 where they are told apart already; None beyond
    :data:`MOST_VOTES_SAID`, equal ones included.
    """
    if abs(difference) > Z * error:
        return 0
    chance = 1 / (1 + math.exp(-difference))
    knowledge_of_a_vote = (chance * (1 - chance)) ** 2 / max(variance, 1e-6)
    needed = ((Z + _Z_OF_POWER) / max(abs(difference), 1e-9)) ** 2 - 1 / error**2
    count = max(math.ceil(needed / knowledge_of_a_vote), 1)
    return count if count <= MOST_VOTES_SAID else None

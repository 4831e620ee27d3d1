"""Bradley–Terry ratings from votes, on the scale of the big arenas.

The chance that ``a`` is preferred to ``b`` is ``1 / (1 + 10 ** ((b - a) / 400))``; a tie is half a win of
each. The mean of all ratings is 1000, unless one model is the anchor. Every model is given
:data:`PRIOR_TIES` ties that nobody voted, spread evenly over all the others: a model that always won, or
two groups that were never compared, then have finite ratings, and a few dozen votes hide the prior.

Shapes: ``K`` models; ``points[..., i, j]`` is what ``i`` took from ``j``: 1 a win, 0.5 a tie. Leading axes
are independent sets of votes, solved at once.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

SCALE: Final = 400.0
BASE: Final = 10.0
START: Final = 1000.0
PRIOR_TIES: Final = 0.5

POINTS_PER_NAT: Final = SCALE / float(np.log(BASE))
_LARGEST_STEP: Final = 1.0
_TOLERANCE: Final = 1e-10
_MOST_STEPS: Final = 200

Floats = npt.NDArray[np.float64]


class Tally(Struct, frozen=True, kw_only=True):
    """Votes counted by kind: ``first[r]`` against ``second[r]`` (indices of models), ``score[r]`` points
    for the first (1, 0.5 or 0), ``count[r]`` times."""

    models: int
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    score: Floats
    count: npt.NDArray[np.int64]

    @classmethod
    def of(cls, models: int, votes: Sequence[tuple[int, int, float]]) -> "Tally":
        """Count ``votes``: index of the first model, of the second, points for the first."""
        if not votes:
            empty = np.zeros(0, dtype=np.int64)
            return cls(models=models, first=empty, second=empty, score=np.zeros(0), count=empty)
        kinds, count = np.unique(np.array(votes, dtype=np.float64), axis=0, return_counts=True)
        return cls(
            models=models,
            first=kinds[:, 0].astype(np.int64),
            second=kinds[:, 1].astype(np.int64),
            score=kinds[:, 2],
            count=count.astype(np.int64),
        )

    @property
    def total(self) -> int:
        """How many votes there are."""
        return int(self.count.sum())

    def points(self, counts: npt.NDArray[np.int64] | None = None) -> Floats:
        """The matrix of points; for ``counts`` of shape (draws, kinds) one matrix a draw."""
        counts = self.count if counts is None else counts
        matrix = np.zeros((*counts.shape[:-1], self.models, self.models))
        for kind in range(len(self.count)):
            first, second, score = self.first[kind], self.second[kind], self.score[kind]
            matrix[..., first, second] += counts[..., kind] * score
            matrix[..., second, first] += counts[..., kind] * (1 - score)
        return matrix


def strengths(points: Floats, *, prior_ties: float = PRIOR_TIES) -> Floats:
    """The likeliest strengths in nats, mean 0; shape ``points.shape[:-1]``.

    Newton's method. A step may change no difference by more than one nat, which for this function makes
    every step an improvement; ``prior_ties`` must be positive.
    """
    models = points.shape[-1]
    if models < 2:
        return np.zeros(points.shape[:-1])
    points = points + _prior(models, prior_ties)
    played = points + np.swapaxes(points, -1, -2)
    theta = np.zeros(points.shape[:-1])
    for _step in range(_MOST_STEPS):
        chance = _chances(theta)
        gradient = (points - played * chance).sum(axis=-1)
        step = np.linalg.solve(_precision(played, chance), gradient[..., None])[..., 0]
        spread = np.ptp(step, axis=-1, keepdims=True)
        theta = theta + step * np.minimum(1.0, _LARGEST_STEP / np.maximum(spread, _TOLERANCE))
        if spread.max() < _TOLERANCE:
            break
    return np.asarray(theta - theta.mean(axis=-1, keepdims=True))


def covariance(points: Floats, theta: Floats, *, prior_ties: float = PRIOR_TIES) -> Floats:
    """Approximate covariance of the strengths ``theta`` of one set of votes, from the curvature there."""
    models = points.shape[-1]
    points = points + _prior(models, prior_ties)
    inverse = np.asarray(np.linalg.inv(_precision(points + points.T, _chances(theta))), dtype=np.float64)
    return inverse - 1.0 / models


def _prior(models: int, ties: float) -> Floats:
    return (ties / 2 / (models - 1)) * (1 - np.eye(models))


def _chances(theta: Floats) -> Floats:
    """The chance that i is preferred to j."""
    difference = theta[..., :, None] - theta[..., None, :]
    return 0.5 * (1 + np.tanh(difference / 2))  # the logistic function; never overflows


def _precision(played: Floats, chance: Floats) -> Floats:
    """Minus the second derivative, made invertible: a constant is added along (1, …, 1), which is free."""
    weight = played * chance * (1 - chance)
    models = played.shape[-1]
    diagonal = np.eye(models) * weight.sum(axis=-1)[..., None]
    return diagonal - weight + 1.0 / models


def to_ratings(theta: Floats, *, anchor: int | None = None, anchor_rating: float = START) -> Floats:
    """Strengths in nats as ratings; the model ``anchor``, if there is one, has ``anchor_rating``."""
    ratings = theta * POINTS_PER_NAT
    if anchor is None:
        return ratings - ratings.mean(axis=-1, keepdims=True) + START
    return ratings - ratings[..., anchor, None] + anchor_rating

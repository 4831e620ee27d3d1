"""Style control: how much of a rating is owed to long answers, headings, lists and bold.

As the big arenas do it: for every vote the normalised difference (a - b) / (a + b + 1) of the two answers
in each feature, brought to a common scale, enters the logistic model beside the two strengths, with a
ridge on its coefficient. Length is counted in characters. The scale is the root mean square, without the
mean taken off: to exchange the two answers of every vote then changes nothing.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tanuki_cli.evaluation.arena.intervals import Z, redraw, with_unseen
from tanuki_cli.evaluation.arena.ratings import PRIOR_TIES, Floats, Tally, strengths
from tanuki_cli.i18n import N_

RIDGE: Final = 0.5
FEATURES: Final = ("length", "headings", "lists", "bold")
FEATURE_NAMES: Final = (N_("length"), N_("headings"), N_("list items"), N_("bold"))

_CODE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_MARKS: Final = (
    re.compile(r"^ {0,3}#{1,6}[ \t]", re.MULTILINE),
    re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]", re.MULTILINE),
    re.compile(r"\*\*(?=\S)[^*\n]+\*\*|__(?=\S)[^_\n]+__"),
)
_TOLERANCE: Final = 1e-9
_MOST_STEPS: Final = 200
_CELLS: Final = 2_000_000
"""Numbers that one array may hold while sets of votes are fitted together."""


class StyledVote(Struct, frozen=True, kw_only=True):
    """One vote: indices of the models, points for the first, and the two texts that were compared."""

    first: int
    second: int
    score: float
    texts: tuple[str, str]


class Effect(Struct, frozen=True, kw_only=True):
    """What one feature does: change of the log odds for one usual difference, with its interval."""

    feature: str
    value: float
    low: float
    high: float


class StyledStrengths(Struct, frozen=True, kw_only=True):
    """Strengths in nats with style taken out, those of redrawn votes, and the effect of every feature."""

    theta: Floats
    drawn: Floats
    effects: tuple[Effect, ...]


def features(text: str) -> Floats:
    """Characters, headings, list items and bold passages of ``text``; code blocks have no marks."""
    prose = _CODE.sub("", text)
    return np.array([len(text), *(len(mark.findall(prose)) for mark in _MARKS)], dtype=np.float64)


def differences(votes: Sequence[StyledVote]) -> Floats:
    """The normalised differences, shape (votes, features), each column with a mean square of 1 (or all 0)."""
    if not votes:
        return np.zeros((0, len(FEATURES)))
    first = np.array([features(vote.texts[0]) for vote in votes])
    second = np.array([features(vote.texts[1]) for vote in votes])
    raw = (first - second) / (first + second + 1)
    size = np.sqrt((raw**2).mean(axis=0))
    return raw / np.where(size > 0, size, 1.0)


def styled_strengths(
    models: int,
    votes: Sequence[StyledVote],
    *,
    draws: int,
    rng: np.random.Generator,
    prior_ties: float = PRIOR_TIES,
) -> StyledStrengths:
    """Fit strengths and features together, and again to ``draws`` redrawn sets of votes."""
    rows = _Rows(models, votes, prior_ties)
    (best,) = rows.fit(np.concatenate([np.ones(len(votes)), np.zeros(rows.unseen)])[None], rows.start())
    counts = redraw(rows.weights, len(votes), draws, rng) if votes else np.zeros((0, rows.unseen))
    at_once = max(1, _CELLS // max(len(rows.weights), 1))
    parts = [
        rows.fit(counts[start : start + at_once].astype(np.float64), best)
        for start in range(0, len(counts), at_once)
    ]
    drawn = np.concatenate(parts) if parts else np.zeros((0, len(best)))
    errors = drawn[:, models:].std(axis=0) if len(drawn) else np.zeros(len(FEATURES))
    effects = tuple(
        Effect(feature=name, value=float(value), low=float(value - Z * error), high=float(value + Z * error))
        for name, value, error in zip(FEATURES, best[models:], errors, strict=True)
    )
    return StyledStrengths(theta=best[:models], drawn=drawn[:, :models], effects=effects)


class _Rows:
    """The regression: one row a vote, then a win and a loss for every pair (see :mod:`intervals`)."""

    def __init__(self, models: int, votes: Sequence[StyledVote], prior_ties: float) -> None:
        self._models = models
        self._prior_ties = prior_ties
        self._tally = Tally.of(models, [(vote.first, vote.second, vote.score) for vote in votes])
        wider, weights = with_unseen(self._tally)
        kinds = len(self._tally.count)
        first = np.concatenate([[vote.first for vote in votes], wider.first[kinds:]]).astype(np.int64)
        second = np.concatenate([[vote.second for vote in votes], wider.second[kinds:]]).astype(np.int64)
        prior = _pairs(models)
        self.unseen = len(wider.count) - kinds
        self.weights: Floats = np.concatenate([np.ones(len(votes)), weights[kinds:]])
        self._score = np.concatenate(
            [[vote.score for vote in votes], wider.score[kinds:], np.full(len(prior), 0.5)]
        )
        self._design = np.zeros((len(self._score), models + len(FEATURES)))
        both = np.concatenate([np.stack([first, second], axis=1), prior])
        self._design[np.arange(len(both)), both[:, 0]] = 1.0
        self._design[np.arange(len(both)), both[:, 1]] -= 1.0
        self._design[: len(votes), models:] = differences(votes)

    def start(self) -> Floats:
        """The strengths without style, and no effects."""
        theta = strengths(self._tally.points(), prior_ties=self._prior_ties)
        return np.concatenate([theta, np.zeros(len(FEATURES))])

    def fit(self, counts: Floats, start: Floats) -> Floats:
        """The likeliest strengths and effects for rows that are there ``counts`` times, shape (sets, rows).

        Newton's method, all sets at once; shape (sets, models + features). A step changes no row's log odds
        by more than 1, which makes every step an improvement.
        """
        models = self._models
        prior = np.full(
            (len(counts), len(self._score) - counts.shape[1]), self._prior_ties / max(models - 1, 1)
        )
        count = np.concatenate([counts, prior], axis=1)
        ridge = np.concatenate([np.zeros(models), np.full(len(FEATURES), RIDGE)])
        parameters = np.tile(start, (len(counts), 1))
        for _step in range(_MOST_STEPS):
            chance = 0.5 * (1 + np.tanh(parameters @ self._design.T / 2))
            gradient = (count * (self._score - chance)) @ self._design - ridge * parameters
            curvature = self._curvature(count * chance * (1 - chance)) + np.diag(ridge)
            step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            size = np.abs(step @ self._design.T).max(axis=1, initial=0.0, keepdims=True)
            parameters = parameters + step * np.minimum(1.0, 1.0 / np.maximum(size, _TOLERANCE))
            if size.max(initial=0.0) < _TOLERANCE:
                break
        parameters[:, :models] -= parameters[:, :models].mean(axis=1, keepdims=True)
        return parameters

    def _curvature(self, weight: Floats) -> Floats:
        """Sums of weighted products of columns, by one matrix product for all sets; (sets, columns, columns).

        Made invertible by a constant along the strengths' common level, which is free.
        """
        columns = self._design.shape[1]
        first, second = np.triu_indices(columns)
        sums = np.zeros((len(weight), len(first)))
        at_once = max(1, _CELLS // len(first))
        for start in range(0, len(self._design), at_once):
            rows = self._design[start : start + at_once]
            sums += weight[:, start : start + at_once] @ (rows[:, first] * rows[:, second])
        curvature = np.zeros((len(weight), columns, columns))
        curvature[:, first, second] = sums
        curvature[:, second, first] = sums
        curvature[:, : self._models, : self._models] += 1.0 / self._models
        return curvature


def _pairs(models: int) -> npt.NDArray[np.int64]:
    first, second = np.triu_indices(models, 1)
    return np.stack([first, second], axis=1).astype(np.int64)

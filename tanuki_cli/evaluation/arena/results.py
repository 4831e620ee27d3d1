"""What votes say of the models: ratings, win rates, pairs, positions, categories, style."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.intervals import (
    Share,
    Z,
    drawn_strengths,
    groups,
    more_votes,
    spread,
    wilson,
)
from tanuki_cli.evaluation.arena.ratings import (
    POINTS_PER_NAT,
    PRIOR_TIES,
    START,
    Floats,
    Tally,
    strengths,
    to_ratings,
)
from tanuki_cli.evaluation.arena.style import Effect, StyledVote, styled_strengths
from tanuki_cli.evaluation.arena.votes import Verdict, Vote, models_of
from tanuki_cli.i18n import _

BOOTSTRAP: Final = 1000

Kinds = Mapping[tuple[tuple[str, str], Verdict], int]
"""Votes counted by their models, in the order shown, and verdict."""


class RatingOptions(Struct, frozen=True, kw_only=True):
    """How votes are rated. ``anchor`` names a model whose rating is ``anchor_rating``; else the mean is."""

    bootstrap: int = BOOTSTRAP
    seed: int = 0
    prior_ties: float = PRIOR_TIES
    anchor: str | None = None
    anchor_rating: float = START
    style_control: bool = False


class Counts(Struct, frozen=True, kw_only=True):
    """Votes by kind, as seen from one side."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def votes(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties + self.both_bad

    @property
    def share(self) -> Share:
        """The share won, ties half and half."""
        return wilson(self.wins + (self.ties + self.both_bad) / 2, self.votes)

    @property
    def decided(self) -> Share:
        """The share won of those that are no ties."""
        return wilson(self.wins, self.wins + self.losses)


class Standing(Struct, frozen=True, kw_only=True):
    """One model: its rating with its interval, its votes, the share it won.

    ``rank`` is 1 + the number of models that are surely better. ``as_first`` and ``as_second`` are its
    votes where its answer was shown first and second.
    """

    model: str
    rating: float
    low: float
    high: float
    rank: int
    counts: Counts
    as_first: Counts
    as_second: Counts


class Comparison(Struct, frozen=True, kw_only=True):
    """Two models, the better one first; ``counts`` are those of their own votes, seen from the first.

    ``difference`` of their ratings, with its interval, comes from all votes. ``connected`` is False where
    no votes lead from one to the other, not even through third models. ``more_votes`` is about how many
    votes on these two would tell them apart; 0 if they are, None for more than can be said.
    """

    models: tuple[str, str]
    counts: Counts
    difference: float
    low: float
    high: float
    connected: bool
    more_votes: int | None

    @property
    def told_apart(self) -> bool:
        """Whether the votes say which of the two is better."""
        return self.connected and self.more_votes == 0


class Rating(Struct, frozen=True, kw_only=True):
    """Models by rating, the best first, and every two of them."""

    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    effects: tuple[Effect, ...] = ()


class ArenaResult(Struct, frozen=True, kw_only=True):
    """All that is printed. ``position`` counts votes for the answer shown first as wins.

    ``categories`` is empty where there is no more than one.
    """

    rating: Rating
    position: Counts
    categories: tuple[tuple[str, Rating], ...]
    votes: int
    skipped: int


def evaluate(votes: Sequence[Vote], options: RatingOptions) -> ArenaResult:
    """Rate the models of ``votes``. Raises InputError if no vote counts, or the anchor is not among them."""
    counted = [vote for vote in votes if vote.counts]
    if not counted:
        raise InputError(_("There are no votes yet."), hint="tanuki arena MODEL MODEL")
    models = models_of(counted)
    if options.anchor is not None and options.anchor not in models:
        raise InputError(
            _("The anchor {name} is not among the models: {models}").format(
                name=options.anchor, models=", ".join(models)
            ),
            hint=f"tanuki arena results --anchor {models[0]}",
        )
    names = sorted({vote.category for vote in counted})
    categories = [
        (name, rate([vote for vote in counted if vote.category == name], options)) for name in names
    ]
    return ArenaResult(
        rating=rate(counted, options),
        position=count(_kinds(counted), lambda models: 1),
        categories=tuple(categories) if len(names) > 1 else (),
        votes=len(counted),
        skipped=len(votes) - len(counted),
    )


def rate(votes: Sequence[Vote], options: RatingOptions) -> Rating:
    """Rate the models of ``votes``, all of which count. The same seed gives the same figures."""
    models = models_of(votes)
    index = {name: number for number, name in enumerate(models)}
    tally = Tally.of(
        len(models), [(index[vote.models[0]], index[vote.models[1]], vote.score) for vote in votes]
    )
    theta, drawn, effects = _fitted(votes, index, tally, options)
    cover = spread(tally, theta, drawn, prior_ties=options.prior_ties)
    anchor = index.get(options.anchor) if options.anchor is not None else None
    ratings = to_ratings(theta, anchor=anchor, anchor_rating=options.anchor_rating)
    order = sorted(range(len(models)), key=lambda number: (-ratings[number], models[number]))
    kinds = _kinds(votes)
    pairs = _Pairs(kinds, models, tally, theta, cover)
    return Rating(
        standings=tuple(_standing(number, kinds, models, ratings, cover, anchor) for number in order),
        comparisons=tuple(
            pairs.compare(better, worse) for place, better in enumerate(order) for worse in order[place + 1 :]
        ),
        effects=effects,
    )


def count(kinds: Kinds, side: Callable[[tuple[str, str]], int]) -> Counts:
    """Count votes by ``side``: of two models in the order shown, 1 for the view of the first, -1 for that of
    the second, 0 for votes that are not meant."""
    found: Counter[str] = Counter()
    for (models, verdict), number in kinds.items():
        towards = side(models)
        if towards and verdict in {"tie", "both-bad"}:
            found[verdict] += number
        elif towards:
            found["win" if (verdict == "first") == (towards > 0) else "loss"] += number
    return Counts(wins=found["win"], losses=found["loss"], ties=found["tie"], both_bad=found["both-bad"])


def _kinds(votes: Sequence[Vote]) -> Kinds:
    return Counter((vote.models, vote.verdict) for vote in votes if vote.counts)


def _fitted(
    votes: Sequence[Vote], index: dict[str, int], tally: Tally, options: RatingOptions
) -> tuple[Floats, Floats, tuple[Effect, ...]]:
    """Strengths, redrawn strengths, effects of style."""
    rng = np.random.default_rng(options.seed)
    if not options.style_control:
        theta = strengths(tally.points(), prior_ties=options.prior_ties)
        drawn = drawn_strengths(tally, draws=options.bootstrap, rng=rng, prior_ties=options.prior_ties)
        return theta, drawn, ()
    styled = [
        StyledVote(
            first=index[vote.models[0]],
            second=index[vote.models[1]],
            score=vote.score,
            texts=(vote.text(0), vote.text(1)),
        )
        for vote in votes
    ]
    fit = styled_strengths(
        len(index), styled, draws=options.bootstrap, rng=rng, prior_ties=options.prior_ties
    )
    return fit.theta, fit.drawn, fit.effects


def _standing(
    number: int, kinds: Kinds, models: list[str], ratings: Floats, cover: Floats, anchor: int | None
) -> Standing:
    name = models[number]
    errors = [_points(_error(cover, number, other)) for other in range(len(models))]
    half = Z * (_points(float(np.sqrt(cover[number, number]))) if anchor is None else errors[anchor])
    surely_better = [
        other for other in range(len(models)) if ratings[other] - ratings[number] > Z * errors[other]
    ]
    as_first = count(kinds, lambda shown: int(shown[0] == name))
    as_second = count(kinds, lambda shown: -int(shown[1] == name))
    return Standing(
        model=name,
        rating=float(ratings[number]),
        low=float(ratings[number]) - half,
        high=float(ratings[number]) + half,
        rank=1 + len(surely_better),
        counts=_sum(as_first, as_second),
        as_first=as_first,
        as_second=as_second,
    )


class _Pairs:
    """Compares two models, of all those that were rated together."""

    def __init__(self, kinds: Kinds, models: list[str], tally: Tally, theta: Floats, cover: Floats) -> None:
        self._kinds = kinds
        self._models = models
        self._theta = theta
        self._cover = cover
        self._group = groups(tally.points())
        # The variance of one vote, as a share of what it would be without ties.
        decided = sum(
            number for (_models, verdict), number in kinds.items() if verdict in {"first", "second"}
        )
        self._decided = (decided + 1) / (tally.total + 1)

    def compare(self, better: int, worse: int) -> Comparison:
        names = self._models[better], self._models[worse]
        difference = float(self._theta[better] - self._theta[worse])
        error = _error(self._cover, better, worse)
        chance = 1 / (1 + np.exp(-difference))
        half = Z * error
        return Comparison(
            models=names,
            counts=count(self._kinds, lambda shown: _side(shown, names)),
            difference=_points(difference),
            low=_points(difference - half),
            high=_points(difference + half),
            connected=self._group[better] == self._group[worse],
            more_votes=more_votes(difference, error, float(chance * (1 - chance)) * self._decided),
        )


def _side(shown: tuple[str, str], names: tuple[str, str]) -> int:
    return 1 if shown == names else -int(shown == (names[1], names[0]))


def _error(cover: Floats, first: int, second: int) -> float:
    variance = cover[first, first] + cover[second, second] - 2 * cover[first, second]
    return float(np.sqrt(max(float(variance), 0.0)))


def _points(nats: float) -> float:
    return nats * POINTS_PER_NAT


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        wins=one.wins + other.wins,
        losses=one.losses + other.losses,
        ties=one.ties + other.ties,
        both_bad=one.both_bad + other.both_bad,
    )

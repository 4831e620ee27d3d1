"""What is compared next: the question with the fewest votes, by the models whose order is least certain."""

import random
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from typing import Final

from msgspec import Struct

from tanuki_cli.evaluation.arena.answers import answer_key
from tanuki_cli.evaluation.arena.contestants import Contestant
from tanuki_cli.evaluation.arena.pairing import next_pair
from tanuki_cli.evaluation.arena.questions import Question
from tanuki_cli.evaluation.arena.votes import OWN, Vote
from tanuki_cli.sampling import SamplingOptions

ANSWERS: Final = "answers"
"""The option in a vote's provenance that names the prepared answers it was cast on, by their keys."""


class Matchup(Struct, frozen=True, kw_only=True):
    """Two models in the order in which they are shown, and the question with the keys of their answers.

    ``question`` is None where it is still to be typed; ``keys`` are then empty.
    """

    models: tuple[Contestant, Contestant]
    question: Question | None = None
    keys: tuple[str, ...] = ()


class Schedule:
    """Draws matchups so that no question is voted on twice by the same two answers, in any run.

    ``votes`` are those cast before; :meth:`record` adds one. The order in which two models are shown is
    drawn by ``rng``.
    """

    def __init__(
        self,
        contestants: Sequence[Contestant],
        questions: Sequence[Question],
        votes: Iterable[Vote],
        *,
        system: str | None,
        sampling: SamplingOptions,
        rng: random.Random,
    ) -> None:
        self._contestants = contestants
        self._questions = questions
        self._rng = rng
        self._index = {one.name: number for number, one in enumerate(contestants)}
        self._keys = {
            question.turns: [answer_key(one.identity, question, system, sampling) for one in contestants]
            for question in questions
        }
        pairs = list(combinations(range(len(contestants)), 2))
        self._open = [list(pairs) for _question in questions]
        self._scores: list[tuple[int, int, float]] = []
        for vote in votes:
            if vote.source == OWN:
                self.record(vote)

    @property
    def remaining(self) -> int:
        """How many matchups of the questions are left."""
        return sum(map(len, self._open))

    def key(self, question: Question, contestant: Contestant) -> str:
        """The key of an answer of ``contestant``."""
        return self._keys[question.turns][self._index[contestant.name]]

    def needed(self, contestant: Contestant) -> list[Question]:
        """The questions that ``contestant`` has to answer for some matchup that is left."""
        own = self._index[contestant.name]
        return [
            question
            for question, pairs in zip(self._questions, self._open, strict=True)
            if any(own in pair for pair in pairs)
        ]

    def drop(self, question: Question) -> None:
        """Draw ``question`` no more: it could not be answered."""
        self._open[self._questions.index(question)] = []

    def next_prepared(self) -> Matchup | None:
        """The next matchup on one of the questions; None if there is none left."""
        most = max(map(len, self._open), default=0)
        if most == 0:
            return None
        number = next(number for number, pairs in enumerate(self._open) if len(pairs) == most)
        shown = self._draw(self._open[number])
        question = self._questions[number]
        return Matchup(
            models=(self._contestants[shown[0]], self._contestants[shown[1]]),
            question=question,
            keys=tuple(self._keys[question.turns][model] for model in shown),
        )

    def next_typed(self) -> Matchup:
        """Two models for a question that is to be typed."""
        first, second = self._draw(list(combinations(range(len(self._contestants)), 2)))
        return Matchup(models=(self._contestants[first], self._contestants[second]))

    def record(self, vote: Vote) -> None:
        """Take ``vote`` into account."""
        options = vote.provenance.get("options")
        keys = options.get(ANSWERS) if isinstance(options, dict) else None
        if isinstance(keys, (list, tuple)) and len(keys) == 2:
            self._close(keys)
        if vote.counts and all(name in self._index for name in vote.models):
            first, second = (self._index[name] for name in vote.models)
            self._scores.append((first, second, vote.score))

    def _close(self, keys: Sequence[object]) -> None:
        for number, question in enumerate(self._questions):
            own = self._keys[question.turns]
            if keys[0] in own and keys[1] in own:
                voted = sorted(keys, key=str)
                self._open[number] = [
                    pair for pair in self._open[number] if sorted(own[model] for model in pair) != voted
                ]

    def _draw(self, pairs: Collection[tuple[int, int]]) -> tuple[int, int]:
        if len(pairs) == 1:
            first, second = next(iter(pairs))
        else:
            first, second = next_pair(len(self._contestants), self._scores, among=pairs, rng=self._rng)
        return (first, second) if self._rng.random() < 0.5 else (second, first)

"""One comparison while it runs: two models, the turns so far, and the vote in the end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Protocol

from msgspec import to_builtins

from tanuki_cli.evaluation.arena.answers import PreparedAnswer, prompt_messages, seeded
from tanuki_cli.evaluation.arena.contestants import Roster
from tanuki_cli.evaluation.arena.schedule import ANSWERS, Matchup
from tanuki_cli.evaluation.arena.votes import Turn, Verdict, Vote
from tanuki_cli.evaluation.asking import Completion, complete
from tanuki_cli.evaluation.provenance import ModelSource, Provenance
from tanuki_cli.sampling import SamplingOptions


class AnswerScreen(Protocol):
    """Where the two answers are shown."""

    def answer(self, position: int) -> AbstractContextManager[Callable[[str], None]]:
        """Show the answer at ``position`` (0 or 1): it is handed over piece by piece within the block."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """Within the block both answers are made, and neither is shown yet."""
        ...


class Comparison:
    """Two models that answer the same questions with the same options, and nobody knows which is which.

    ``stream`` shows each answer as it comes, where both models can be loaded at once; else both are shown
    when both are there, so that the time for loading says nothing.
    """

    def __init__(
        self,
        matchup: Matchup,
        roster: Roster,
        *,
        system: str | None,
        sampling: SamplingOptions,
        category: str = "",
        stream: bool = True,
    ) -> None:
        self.matchup = matchup
        self.turns: list[Turn] = []
        self._roster = roster
        self._system = system
        self._category = category
        self._stream = stream
        self._sources: tuple[ModelSource, ModelSource] | None = None
        question = matchup.question
        self._sampling = seeded(sampling, question) if question else sampling.with_seed()

    def begin(self, answers: tuple[PreparedAnswer, PreparedAnswer]) -> None:
        """Begin with prepared ``answers``, in the order of the matchup."""
        assert self.matchup.question is not None
        first, second = answers
        self.turns = [
            Turn(
                question=question,
                answers=(one.text, other.text),
                finish_reasons=(one.finish_reason, other.finish_reason),
            )
            for question, one, other in zip(
                self.matchup.question.turns, first.replies, second.replies, strict=True
            )
        ]
        self._sources = first.source, second.source

    def show(self, turn: Turn, screen: AnswerScreen) -> None:
        """Show the two answers of ``turn``."""
        for position, text in enumerate(turn.answers):
            with screen.answer(position) as feed:
                feed(text)

    def ask(self, question: str, screen: AnswerScreen) -> None:
        """Put ``question`` to both, and show what they answer.

        Raises InterruptedByUser at Ctrl-C, and what loading and :meth:`Engine.stream` raise: then the
        question is no part of the comparison.
        """
        if self._stream and self._roster.ready(self.matchup.models):
            for contestant in self.matchup.models:
                self._roster.model(contestant)  # before the first answer: the second must not be late
            first = self._answer_live(0, question, screen)
            turn = _turn(question, first, self._answer_live(1, question, screen))
        else:
            with screen.waiting():
                turn = self._answer_hidden(question)
            self.show(turn, screen)
        self.turns.append(turn)

    def vote(self, verdict: Verdict) -> Vote:
        """The vote on all turns."""
        question = self.matchup.question
        sources = self._sources or [self._roster.source(one) for one in self.matchup.models]
        options = {"system": self._system, **({ANSWERS: list(self.matchup.keys)} if question else {})}
        provenance = Provenance.now("arena", sources, options=options, sampling=to_builtins(self._sampling))
        first, second = self.matchup.models
        return Vote(
            time=datetime.now(timezone.utc),
            models=(first.name, second.name),
            verdict=verdict,
            turns=tuple(self.turns),
            category=question.category if question else self._category,
            provenance=provenance.to_json(),
        )

    def _answer_live(self, position: int, question: str, screen: AnswerScreen) -> Completion:
        with screen.answer(position) as feed:
            return self._complete(position, question, feed)

    def _answer_hidden(self, question: str) -> Turn:
        models = self.matchup.models
        found = {}
        for contestant in self._roster.sooner(models):
            position = models.index(contestant)
            found[position] = self._complete(position, question, lambda text: None)
        return _turn(question, found[0], found[1])

    def _complete(self, position: int, question: str, receive: Callable[[str], None]) -> Completion:
        engine = self._roster.model(self.matchup.models[position]).engine
        messages = prompt_messages(self.turns, position, question, system=self._system)
        return complete(engine, messages, self._sampling, receive=receive)


def _turn(question: str, first: Completion, second: Completion) -> Turn:
    return Turn(
        question=question,
        answers=(first.text, second.text),
        finish_reasons=(first.finish_reason, second.finish_reason),
    )

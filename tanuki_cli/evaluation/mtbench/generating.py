"""Generates the answers of one model, question by question."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import Engine
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.asking import complete
from tanuki_cli.evaluation.mtbench.answers import AnswerFile, AnswerRun
from tanuki_cli.evaluation.mtbench.questions import BenchQuestion
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject
from tanuki_cli.sampling import SamplingOptions

NO_ANSWER: Final = "ERROR"
"""What FastChat writes for an answer that could not be generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerProgress:
    """How far a run is: ``done`` of ``total`` turns are there; this run made ``tokens`` so far."""

    done: int
    total: int
    tokens: int
    question_id: int


def generate_answers(
    engine: Engine,
    questions: Sequence[BenchQuestion],
    run: AnswerRun,
    folder: Path,
    *,
    limit: int | None = None,
    report: Callable[[AnswerProgress], None],
    note: Callable[[str], None],
) -> int:
    """Answer what is not answered yet of ``questions``, one after the other, at most ``limit`` of them.

    ``report`` is told of the progress, ``note`` gets sentences for the user. Returns how many are
    answered by then. Raises InputError if the file holds answers of another run, InterruptedByUser at
    Ctrl-C, and what the engine raises; what was finished by then is kept.
    """
    with AnswerFile(folder, run) as file:
        todo = [question for question in questions if question.id not in file.answered][:limit]
        wanted = [question for question in questions if question in todo or question.id in file.answered]
        _Generation(engine, wanted, run, file, report, note).finish_all()
        return len(wanted)


class _Generation:
    """One pass over the questions."""

    def __init__(
        self,
        engine: Engine,
        questions: Sequence[BenchQuestion],
        run: AnswerRun,
        file: AnswerFile,
        report: Callable[[AnswerProgress], None],
        note: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._questions = questions
        self._run = run
        self._file = file
        self._report = report
        self._note = note
        self._tokens = 0
        self._total = sum(len(question.turns) for question in questions) * run.choices
        self._done = sum(self._turns_there(question) for question in questions)

    def _turns_there(self, question: BenchQuestion) -> int:
        if question.id in self._file.answered:
            return len(question.turns) * self._run.choices
        return sum(id_ == question.id for id_, _choice, _turn in self._file.turns)

    def finish_all(self) -> None:
        for question in self._questions:
            if question.id in self._file.answered:
                continue
            for choice in range(self._run.choices):
                self._answer(question, choice)
            self._file.finish(question)
            self._tell(question)
        self._file.forget_turns()

    def _answer(self, question: BenchQuestion, choice: int) -> None:
        """All turns of one choice; those that are there already are taken as they are."""
        options = self._run.preset.options(question.category, choice)
        messages = [Message("system", self._run.system)] if self._run.system is not None else []
        for turn, text in enumerate(question.turns):
            messages.append(Message("user", text))
            if (question.id, choice, turn) not in self._file.turns:
                self._tell(question)
                # The seed decides nothing where the likeliest token is always taken.
                same = self._file.turns.get((question.id, 0, turn)) if options.greedy else None
                self._file.keep(question, choice, turn, same or self._ask(question, messages, options))
                self._done += 1
            messages.append(Message("assistant", self._file.turns[question.id, choice, turn]["text"]))

    def _ask(
        self, question: BenchQuestion, messages: Sequence[Message], options: SamplingOptions
    ) -> JsonObject:
        def count(tokens: int) -> None:
            self._tokens += tokens
            self._tell(question)

        try:
            completion = complete(self._engine, messages, options, report=count)
        except InputError as exc:  # the question does not fit
            self._note(
                _("Question {id} is not answered: {reason}").format(id=question.id, reason=exc.message)
            )
            return {"text": NO_ANSWER, "finish_reason": "error", "completion_tokens": 0, "dropped": 0}
        if completion.dropped:
            self._note(
                _("Question {id}: the first turn did not fit into the context and was not sent.").format(
                    id=question.id
                )
            )
        return {
            "text": completion.text.strip(),
            "finish_reason": completion.finish_reason,
            "completion_tokens": completion.usage.completion_tokens,
            "dropped": completion.dropped,
        }

    def _tell(self, question: BenchQuestion) -> None:
        self._report(
            AnswerProgress(done=self._done, total=self._total, tokens=self._tokens, question_id=question.id)
        )

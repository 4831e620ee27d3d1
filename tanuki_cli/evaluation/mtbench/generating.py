"""Generates the answers of one model, several questions at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import Answerer
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.asking import Completion
from tanuki_cli.evaluation.mtbench.answers import AnswerFile, AnswerRun
from tanuki_cli.evaluation.mtbench.questions import BenchQuestion
from tanuki_cli.evaluation.talks import Asked, Talk, hold_talks
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject
from tanuki_cli.sampling import SamplingOptions

NO_ANSWER: Final = "ERROR"
"""What FastChat writes for an answer that could not be generated."""


class AnswerProgress(Struct, frozen=True, kw_only=True):
    """How far a run is: ``done`` of ``total`` turns are there; this run made ``tokens`` so far."""

    done: int
    total: int
    tokens: int
    question_id: int


def generate_answers(
    answerer: Answerer,
    questions: Sequence[BenchQuestion],
    run: AnswerRun,
    folder: Path,
    *,
    limit: int | None = None,
    report: Callable[[AnswerProgress], None],
    note: Callable[[str], None],
) -> int:
    """Answer what is not answered yet of ``questions``, at most ``limit`` of them.

    The answers are those that they are one after another, and their records stand in the order of the
    questions. ``report`` is told of the progress, ``note`` gets sentences for the user. Returns how many are
    answered by then. Raises InputError if the file holds answers of another run, InterruptedByUser at
    Ctrl-C, and what the engine raises; what was finished by then is kept.
    """
    with AnswerFile(folder, run) as file:
        todo = [question for question in questions if question.id not in file.answered][:limit]
        wanted = [question for question in questions if question in todo or question.id in file.answered]
        _Generation(answerer, wanted, run, file, report, note).finish_all()
        return len(wanted)


class _Generation:
    """One pass over the questions."""

    def __init__(
        self,
        answerer: Answerer,
        questions: Sequence[BenchQuestion],
        run: AnswerRun,
        file: AnswerFile,
        report: Callable[[AnswerProgress], None],
        note: Callable[[str], None],
    ) -> None:
        self._answerer = answerer
        self._questions = questions
        self._run = run
        self._file = file
        self._report = report
        self._note = note
        self._tokens = 0
        self._newest = questions[0] if questions else None
        self._total = sum(len(question.turns) for question in questions) * run.choices
        self._done = sum(self._turns_there(question) for question in questions)

    def _turns_there(self, question: BenchQuestion) -> int:
        if question.id in self._file.answered:
            return len(question.turns) * self._run.choices
        return sum(id_ == question.id for id_, _choice, _turn in self._file.turns)

    def finish_all(self) -> None:
        hold_talks(self._answerer, self._talks(), report=self._count)
        self._file.forget_turns()

    def _talks(self) -> Iterator[Talk]:
        open_questions = [one for one in self._questions if one.id not in self._file.answered]
        whole: set[int] = set()
        # A record waits for those before it; its turns are on the disk meanwhile.
        waiting = deque(open_questions)

        def ended(question: BenchQuestion) -> None:
            whole.add(question.id)
            while waiting and waiting[0].id in whole:
                self._file.finish(waiting.popleft())
            self._tell(question)

        for question in open_questions:
            yield self._talk(question, ended)

    def _talk(self, question: BenchQuestion, ended: Callable[[BenchQuestion], None]) -> Talk:
        for choice in range(self._run.choices):
            yield from self._answer(question, choice)
        ended(question)

    def _answer(self, question: BenchQuestion, choice: int) -> Talk:
        """All turns of one choice; those that are there already are taken as they are."""
        options = self._run.preset.options(question.category, choice)
        messages = [Message("system", self._run.system)] if self._run.system is not None else []
        for turn, text in enumerate(question.turns):
            messages.append(Message("user", text))
            if (question.id, choice, turn) not in self._file.turns:
                self._tell(question)
                # The seed decides nothing where the likeliest token is always taken.
                same = self._file.turns.get((question.id, 0, turn)) if options.greedy else None
                values = same or (yield from self._ask(question, [*messages], options))
                self._file.keep(question, choice, turn, values)
                self._done += 1
            messages.append(Message("assistant", self._file.turns[question.id, choice, turn]["text"]))

    def _count(self, tokens: int) -> None:
        self._tokens += tokens
        self._tell(None)

    def _ask(
        self, question: BenchQuestion, messages: Sequence[Message], options: SamplingOptions
    ) -> Generator[Asked, Completion, JsonObject]:
        try:
            completion = yield Asked(messages=messages, options=options)
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

    def _tell(self, question: BenchQuestion | None) -> None:
        self._newest = question or self._newest
        if self._newest is not None:
            self._report(
                AnswerProgress(
                    done=self._done, total=self._total, tokens=self._tokens, question_id=self._newest.id
                )
            )

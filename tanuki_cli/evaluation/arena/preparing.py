"""Making all answers before the first vote, one model after the other."""

from collections.abc import Callable, Sequence
from functools import partial

from tanuki_cli.errors import PromptTooLongError
from tanuki_cli.evaluation.arena.answers import (
    AnswerFile,
    PreparedAnswer,
    answer_all,
    seeded,
)
from tanuki_cli.evaluation.arena.contestants import Contestant, Roster
from tanuki_cli.evaluation.arena.questions import Question
from tanuki_cli.evaluation.arena.schedule import Schedule
from tanuki_cli.sampling import SamplingOptions


def prepare_answers(
    contestants: Sequence[Contestant],
    schedule: Schedule,
    roster: Roster,
    file: AnswerFile,
    *,
    system: str | None,
    sampling: SamplingOptions,
    progress: Callable[[int, int], None],
    too_long: Callable[[Question, PromptTooLongError], None],
) -> dict[str, PreparedAnswer]:
    """The answers that the matchups left need, by key: those of ``file``, and the others made now.

    Each is kept in ``file`` as soon as it is whole. ``progress`` is told of answers done and needed, at
    every token. A question that does not fit some model's context is dropped and told.

    Raises InterruptedByUser at Ctrl-C, and what loading and :meth:`Engine.stream` raise.
    """
    answers = file.read()
    needed = [(one, question) for one in roster.sooner(contestants) for question in schedule.needed(one)]
    missing = [(one, question) for one, question in needed if schedule.key(question, one) not in answers]
    dropped: set[Question] = set()
    for number, (contestant, question) in enumerate(missing):
        report = partial(_report, progress, len(needed) - len(missing) + number, len(needed))
        report(0)
        if question in dropped:
            continue
        model, options = roster.model(contestant), seeded(sampling, question)
        try:
            replies = answer_all(model.engine, question, options, system=system, report=report)
        except PromptTooLongError as error:
            dropped.add(question)
            schedule.drop(question)
            too_long(question, error)
            continue
        key = schedule.key(question, contestant)
        answers[key] = PreparedAnswer(key=key, replies=replies, source=roster.source(contestant))
        file.add(answers[key], question, options)
    progress(len(needed), len(needed))
    return answers


def _report(progress: Callable[[int, int], None], done: int, total: int, _tokens: int) -> None:
    progress(done, total)

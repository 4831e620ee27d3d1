"""Making all answers before the first vote, one model after the other, several questions at a time."""

from collections.abc import Callable, Iterator, Sequence

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
from tanuki_cli.evaluation.talks import Talk, hold_talks
from tanuki_cli.sampling import SamplingOptions


def prepare_answers(
    contestants: Sequence[Contestant],
    schedule: Schedule,
    roster: Roster,
    file: AnswerFile,
    *,
    system: str | None,
    sampling: SamplingOptions,
    places: int | None = None,
    progress: Callable[[int, int], None],
    too_long: Callable[[Question, PromptTooLongError], None],
) -> dict[str, PreparedAnswer]:
    """The answers that the matchups left need, by key: those of ``file``, and the others made now, so many
    at a time as each model has ``places``.

    Each is kept in ``file`` as soon as it is whole. ``progress`` is told of answers done and needed, at
    every token. A question that does not fit some model's context is dropped and told.

    Raises InterruptedByUser at Ctrl-C, and what loading and answering raise.
    """
    answers = file.read()
    needed = [(one, question) for one in roster.sooner(contestants) for question in schedule.needed(one)]
    done = sum(schedule.key(question, one) in answers for one, question in needed)
    dropped: set[Question] = set()

    def told(_tokens: int = 0) -> None:
        progress(done, len(needed))

    def talk(contestant: Contestant, question: Question) -> Talk:
        nonlocal done
        options = seeded(sampling, question)
        try:
            replies = yield from answer_all(question, options, system=system)
        except PromptTooLongError as error:
            dropped.add(question)
            schedule.drop(question)
            too_long(question, error)
        else:
            key = schedule.key(question, contestant)
            answers[key] = PreparedAnswer(key=key, replies=replies, source=roster.source(contestant))
            file.add(answers[key], question, options)
        done += 1

    def talks(contestant: Contestant) -> Iterator[Talk]:
        for one, question in needed:
            if one is contestant and question not in dropped and schedule.key(question, one) not in answers:
                yield talk(one, question)

    for contestant in roster.sooner(contestants):
        told()
        first = next(talks(contestant), None)
        if first is not None:
            hold_talks(roster.answerer(contestant, places), talks(contestant), report=told)
    progress(len(needed), len(needed))
    return answers

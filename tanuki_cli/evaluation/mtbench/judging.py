"""Lets a judge score answers, and keeps every judgement as it comes."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.base import Answerer
from tanuki_cli.engines.remote.failures import RequestFailed
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.asking import Completion
from tanuki_cli.evaluation.mtbench.answers import Answer
from tanuki_cli.evaluation.mtbench.judgements import (
    NO_JUDGEMENT,
    NO_SCORE,
    Judgement,
    digest_of_prompt,
    judgement_files,
    judgement_path,
    read_judgements,
    read_score,
)
from tanuki_cli.evaluation.mtbench.prompts import JudgePrompt, JudgePrompts
from tanuki_cli.evaluation.mtbench.questions import BenchQuestion, References
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.evaluation.talks import Asked, Talk, hold_talks
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import RecordFile
from tanuki_cli.sampling import SamplingOptions

JUDGE_OPTIONS: Final = SamplingOptions(temperature=0.0, max_new_tokens=2048, seed=0)
"""As FastChat asks its judges."""
_TRIES: Final = 8
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 600.0


class JudgeRun(Struct, frozen=True, kw_only=True):
    """Who judges by what. ``judge`` is the name in the records and in the name of their file."""

    judge: str
    prompts: JudgePrompts
    prompt_file: Path
    references: References | None
    provenance: Provenance


class Match(Struct, frozen=True, kw_only=True):
    """One thing to judge: a turn of a choice, and what the judge is asked."""

    question: BenchQuestion
    model: str
    answer_id: str | None
    choice: int
    turn: int
    prompt: JudgePrompt
    user_prompt: str

    @property
    def digests(self) -> tuple[str, str]:
        """What a record of this program, and of another, has of what is asked."""
        known = digest_of_prompt(self.user_prompt, self.prompt.digest)
        return known, digest_of_prompt(self.user_prompt, None)

    @property
    def estimated_tokens(self) -> int:
        """About how many tokens the judge reads: a rule of thumb, as its tokenizer is unknown."""
        return estimate_tokens(self.prompt.system) + estimate_tokens(self.user_prompt)


class JudgeProgress(Struct, frozen=True, kw_only=True):
    """``done`` of ``total`` judgements are there; the counts are those the judge itself told."""

    done: int
    total: int
    prompt_tokens: int
    completion_tokens: int
    unreadable: int


def estimate_tokens(text: str) -> int:
    """About four ASCII characters a token, and one token for every other character."""
    ascii_count = sum(character < "\x80" for character in text)
    return math.ceil(ascii_count / 4 + (len(text) - ascii_count))


def matches_of(
    questions: Sequence[BenchQuestion], model: str, answers: Mapping[int, Answer], run: JudgeRun
) -> Iterator[Match]:
    """Everything to judge of one model: all first turns, then all second ones, as FastChat orders them.

    Questions without an answer are passed over, and second turns where the prompts for them are missing.
    """
    for turn in run.prompts.turns:
        for question in questions:
            answer = answers.get(question.id)
            if answer is None or len(question.turns) < turn:
                continue
            prompt = run.prompts.prompt_for(question, turn)
            for choice, turns in enumerate(answer.choices):
                if len(turns) >= turn:
                    yield Match(
                        question=question,
                        model=model,
                        answer_id=answer.answer_id,
                        choice=choice,
                        turn=turn,
                        prompt=prompt,
                        user_prompt=prompt.fill(_values(question, turns, run.references)),
                    )


def _values(question: BenchQuestion, answer: Sequence[str], references: References | None) -> dict[str, str]:
    """What the placeholders of the prompts stand for."""
    reference = references.answers.get(question.id, ()) if references else ()
    values = {"question": question.turns[0], "answer": answer[0]}
    for name, turns in (("question", question.turns), ("answer", answer), ("ref_answer", reference)):
        values |= {f"{name}_{number}": text for number, text in enumerate(turns[:2], start=1)}
    return values


class Judging:
    """Judges matches into ``<folder>/model_judgment/<judge>_single.jsonl``.

    A context manager: entering reads what is judged already, and raises InputError if the file cannot be
    used. ``wait`` sleeps for so many seconds; tests give another.
    """

    def __init__(
        self,
        folder: Path,
        run: JudgeRun,
        *,
        note: Callable[[str], None],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = judgement_path(folder, run.judge)
        self._folder = folder
        self._run = run
        self._note = note
        self._wait = wait
        self._file = RecordFile(self.path)
        self._progress = JudgeProgress(done=0, total=0, prompt_tokens=0, completion_tokens=0, unreadable=0)
        self._judged: dict[tuple[int, str, str, int, int], Judgement] = {}

    def __enter__(self) -> "Judging":
        with ExitStack() as stack:
            stack.enter_context(self._file)
            judgements, _left_out = read_judgements(judgement_files(self._folder))
            stack.pop_all()
        self._judged = {judgement.key: judgement for judgement in judgements}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def open_matches(self, matches: Sequence[Match]) -> list[Match]:
        """Those that are not judged yet.

        Raises InputError if answers, prompts or references have changed since some were.
        """
        still_open = []
        for match in matches:
            key = (match.question.id, match.model, self._run.judge, match.turn, match.choice)
            judged = self._judged.get(key)
            if judged is None:
                still_open.append(match)
            elif judged.asked not in (None, *match.digests):
                raise InputError(
                    _(
                        "{path} judges other answers of {model}, or by other prompts or references than "
                        "those that are there now."
                    ).format(path=self.path, model=match.model),
                    hint=_("Give the judge another name: --judge-name NAME"),
                )
        return still_open

    def judge_all(
        self, answerer: Answerer, matches: Sequence[Match], *, report: Callable[[JudgeProgress], None]
    ) -> JudgeProgress:
        """Judge ``matches``, each kept as soon as it is there; the last progress says what it took.

        Raises InterruptedByUser at Ctrl-C, and what the judge raises when trying again did not help.
        """
        self._progress = JudgeProgress(
            done=0, total=len(matches), prompt_tokens=0, completion_tokens=0, unreadable=0
        )
        report(self._progress)
        hold_talks(answerer, (self._talk(match, report) for match in matches))
        return self._progress

    def _talk(self, match: Match, report: Callable[[JudgeProgress], None]) -> Talk:
        text, usage = yield from self._judgment(match)
        score = read_score(text)
        self._file.append(_record(match, self._run, text, score))
        before = self._progress
        self._progress = JudgeProgress(
            done=before.done + 1,
            total=before.total,
            prompt_tokens=before.prompt_tokens + usage.prompt_tokens,
            completion_tokens=before.completion_tokens + usage.completion_tokens,
            unreadable=before.unreadable + (score == NO_SCORE),
        )
        report(self._progress)

    def _judgment(self, match: Match) -> Generator[Asked, Completion, tuple[str, Usage]]:
        messages = [Message("system", match.prompt.system), Message("user", match.user_prompt)]
        try:
            completion = yield from self._patiently(Asked(messages=messages, options=JUDGE_OPTIONS))
        except InputError as exc:  # it is too long for the judge
            self._note(
                _("Question {id}, turn {turn}, cannot be judged: {reason}").format(
                    id=match.question.id, turn=match.turn, reason=exc.message
                )
            )
            return NO_JUDGEMENT, Usage(prompt_tokens=0, completion_tokens=0)
        return completion.text, completion.usage

    def _patiently(self, asked: Asked) -> Generator[Asked, Completion, Completion]:
        """Ask, and ask again where the server says or it may help; what came by then is dropped.

        Nothing else is asked while it waits: who has too many requests has them of all.
        """
        pause = _FIRST_WAIT_S
        for _attempt in range(_TRIES - 1):
            try:
                return (yield asked)
            except RequestFailed as failure:
                seconds = max(pause, failure.retry_after or 0.0)
                if not failure.retryable or seconds > _LONGEST_WAIT_S:
                    raise
                self._note(
                    _("{reason} Waiting {seconds:.0f} seconds.").format(
                        reason=failure.message, seconds=seconds
                    )
                )
            self._wait(seconds)
            pause = min(2 * pause, _LONGEST_WAIT_S)
        return (yield asked)


def _record(match: Match, run: JudgeRun, text: str, score: float) -> dict[str, Any]:
    """FastChat's record, then what it does not know: it judges first choices only, ours says which."""
    return {
        "question_id": match.question.id,
        "model": match.model,
        "judge": [run.judge, match.prompt.name],
        "user_prompt": match.user_prompt,
        "judgment": text,
        "score": score,
        "turn": match.turn,
        "tstamp": time.time(),
        "choice": match.choice,
        "category": match.question.category,
        "answer_id": match.answer_id,
        "prompt_digest": match.prompt.digest,
        "reference": run.references.name if run.references else None,
        "provenance": run.provenance.to_json(),
    }

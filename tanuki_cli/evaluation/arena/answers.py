"""Answers made before anybody votes, so that no voter waits; kept on disk as soon as each is whole.

An answer belongs to one model (its digest), one question, one system prompt and the sampling options. Its
seed comes from the question, the same for all models, so that an answer can be made again.
"""

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from tanuki_cli.conversation import Message
from tanuki_cli.evaluation.arena.questions import Question
from tanuki_cli.evaluation.arena.votes import Turn, read_text, unusable
from tanuki_cli.evaluation.asking import Completion
from tanuki_cli.evaluation.provenance import ModelSource
from tanuki_cli.evaluation.talks import Asked
from tanuki_cli.jsonl import LeftOut, RecordFile, read_lines
from tanuki_cli.sampling import MAX_SEED, SamplingOptions

FORMAT_NAME: Final = "tanuki-arena-answer"
FORMAT_VERSION: Final = 1
_WAIT_S: Final = 30.0


class Reply(Struct, frozen=True, kw_only=True):
    """One answer and why it ended."""

    text: str
    finish_reason: str


class PreparedAnswer(Struct, frozen=True, kw_only=True):
    """A model's replies to all turns of a question; ``key`` is :func:`answer_key`."""

    key: str
    replies: tuple[Reply, ...]
    source: ModelSource


def answer_key(identity: str, question: Question, system: str | None, sampling: SamplingOptions) -> str:
    """What an answer belongs to, as one short text."""
    parts = [identity, question.turns, system, to_builtins(sampling)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def seeded(sampling: SamplingOptions, question: Question) -> SamplingOptions:
    """``sampling`` with the seed of ``question``, unless it has one."""
    if sampling.seed is not None:
        return sampling
    digest = hashlib.sha256(json.dumps(question.turns).encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:8], "big") % MAX_SEED)


def prompt_messages(
    turns: Sequence[Turn], position: int, question: str, *, system: str | None
) -> list[Message]:
    """What the model at ``position`` is given: its own side of the turns so far, and ``question``."""
    messages = [Message("system", system)] if system is not None else []
    for turn in turns:
        messages += [Message("user", turn.question), Message("assistant", turn.answers[position])]
    return [*messages, Message("user", question)]


def answer_all(
    question: Question, sampling: SamplingOptions, *, system: str | None
) -> Generator[Asked, Completion, tuple[Reply, ...]]:
    """The part of a talk that puts all turns of ``question`` to a model, and returns its replies."""
    replies: list[Reply] = []
    turns: list[Turn] = []
    for text in question.turns:
        messages = prompt_messages(turns, 0, text, system=system)
        answer = yield Asked(messages=messages, options=sampling)
        replies.append(Reply(text=answer.text, finish_reason=answer.finish_reason))
        turns.append(Turn(question=text, answers=(answer.text, "")))
    return tuple(replies)


class AnswerFile:
    """The prepared answers in ``path``, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, PreparedAnswer]:
        """All answers by key; a line that cannot be read is an answer that is made again.

        Raises InputError if the file cannot be read.
        """
        answers: dict[str, PreparedAnswer] = {}
        for _number, document in read_lines(self._path) if self._path.exists() else ():
            try:
                answer = None if isinstance(document, LeftOut) else _from_json(document)
            except ValueError:
                continue
            if answer is not None:
                answers[answer.key] = answer
        return answers

    def add(self, answer: PreparedAnswer, question: Question, sampling: SamplingOptions) -> None:
        """Keep ``answer``. Raises InputError if it cannot be written."""
        document = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "key": answer.key,
            "question": list(question.turns),
            "replies": [to_builtins(reply) for reply in answer.replies],
            "source": to_builtins(answer.source),
            "sampling": to_builtins(sampling),
        }
        with RecordFile(self._path, wait_s=_WAIT_S, private=True) as file:
            file.append(document)


def _from_json(document: Mapping[str, Any]) -> PreparedAnswer:
    if document.get("format") != FORMAT_NAME or document.get("version") != FORMAT_VERSION:
        raise unusable("format")
    replies = document.get("replies")
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise unusable("replies")
    return PreparedAnswer(
        key=read_text(document, "key", limit=64),
        replies=tuple(
            Reply(text=read_text(reply, "text"), finish_reason=read_text(reply, "finish_reason", limit=64))
            for reply in replies
        ),
        source=ModelSource.from_json(document.get("source")),
    )

"""A vote, and the file that keeps votes: one JSON object a line, only ever appended to.

A vote that was taken is on the disk when :meth:`VoteFile.add` returns. A line that cannot be read is left
out and told, and costs no other. An id that stands there twice counts once.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, get_args

from msgspec import Struct, field

from tanuki_cli.errors import InputError, update_hint
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut, RecordFile, read_lines

Verdict = Literal["first", "second", "tie", "both-bad", "skip"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)

OWN: Final = "own"
"""The source of votes that were cast here."""

FORMAT_NAME: Final = "tanuki-arena-vote"
FORMAT_VERSION: Final = 1
_WAIT_S: Final = 30.0
"""For another process that is writing a vote."""
MOST_TURNS: Final = 64
LONGEST_TEXT: Final = 1_000_000
LONGEST_NAME: Final = 500
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class Turn(Struct, frozen=True, kw_only=True):
    """A question and its two answers, in the order in which they were shown.

    ``finish_reasons`` says why each ended, where that is known.
    """

    question: str
    answers: tuple[str, str]
    finish_reasons: tuple[str | None, str | None] = (None, None)


class Vote(Struct, frozen=True, kw_only=True):
    """One comparison of two models.

    ``models`` and all answers stand in the order in which they were shown, so the position is recorded.
    ``source`` is :data:`OWN`, or the name under which records were imported. ``provenance`` is that of the
    evaluation (options, engines, digests), with its two models in the same order; empty for imports.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    time: datetime | None
    models: tuple[str, str]
    verdict: Verdict
    turns: tuple[Turn, ...]
    category: str = ""
    source: str = OWN
    provenance: Mapping[str, Any] = {}

    @property
    def counts(self) -> bool:
        """Whether it says something about the models."""
        return self.verdict != "skip"

    @property
    def score(self) -> float:
        """Points for the model shown first: a tie of either kind is half and half."""
        return {"first": 1.0, "second": 0.0}.get(self.verdict, 0.5)

    def text(self, position: Literal[0, 1]) -> str:
        """All answers of one side."""
        return "\n\n".join(turn.answers[position] for turn in self.turns)


class Ballots(Struct, frozen=True, kw_only=True):
    """The votes of a file in the order of their lines, and what was left out."""

    votes: tuple[Vote, ...]
    left_out: tuple[LeftOut, ...] = ()
    repeated: int = 0


class VoteFile:
    """The votes kept in ``path``; it need not exist yet, and is readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, votes: Iterable[Vote]) -> None:
        """Append ``votes``; when this returns they are on the disk.

        Raises InputError if they cannot be written, ValueError for a vote that could not be read again.
        """
        documents = [to_json(vote) for vote in votes]
        for document in documents:
            from_json(document)
        if not documents:
            return
        try:
            with RecordFile(self.path, wait_s=_WAIT_S, private=True) as file:
                file.append(*documents)
        except InputError as exc:
            if not isinstance(exc.__cause__, OSError):
                raise  # another process holds it
            hint = _("Check the permissions and the free space of {path}.").format(path=self.path.parent)
            raise InputError(exc.message, hint=hint) from exc

    def read(self) -> Ballots:
        """All votes; none where there is no file. Raises InputError, also for a newer version's file."""
        if not self.path.exists():
            return Ballots(votes=())
        votes: dict[str, Vote] = {}
        left_out = []
        repeated = 0
        for number, document in read_lines(self.path):
            if isinstance(document, LeftOut):
                left_out.append(document)
                continue
            try:
                vote = from_json(document)
            except NewerVersion as exc:
                raise InputError(
                    _("{name} was written by a newer version of tanuki.").format(name=self.path),
                    hint=update_hint(),
                ) from exc
            except ValueError as exc:
                left_out.append(LeftOut(path=self.path, line=number, reason=str(exc)))
                continue
            repeated += vote.id in votes
            votes.setdefault(vote.id, vote)
        return Ballots(votes=tuple(votes.values()), left_out=tuple(left_out), repeated=repeated)


class NewerVersion(ValueError):
    """A line that a later version wrote."""


def to_json(vote: Vote) -> dict[str, Any]:
    """``vote`` as values for JSON."""
    return {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "id": vote.id,
        "time": None if vote.time is None else vote.time.astimezone(timezone.utc).isoformat(),
        "models": list(vote.models),
        "verdict": vote.verdict,
        "category": vote.category,
        "source": vote.source,
        "turns": [
            {
                "question": turn.question,
                "answers": list(turn.answers),
                "finish_reasons": list(turn.finish_reasons),
            }
            for turn in vote.turns
        ],
        "provenance": dict(vote.provenance),
    }


def from_json(document: Mapping[str, Any]) -> Vote:
    """Read what :func:`to_json` wrote. Raises ValueError that names the field, NewerVersion."""
    if document.get("format") != FORMAT_NAME:
        raise ValueError(_("it is not a vote"))
    version = document.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerVersion(str(version))
    verdict = next((one for one in VERDICTS if one == document.get("verdict")), None)
    if verdict is None:
        raise unusable("verdict")
    models = read_pair(document, "models", limit=LONGEST_NAME)
    turns = document.get("turns")
    provenance = document.get("provenance", {})
    if not all(models) or models[0] == models[1]:
        raise unusable("models")
    if not isinstance(turns, list) or not 1 <= len(turns) <= MOST_TURNS:
        raise unusable("turns")
    if not isinstance(provenance, dict):
        raise unusable("provenance")
    return Vote(
        id=read_text(document, "id", limit=64),
        time=read_time(document, "time"),
        models=models,
        verdict=verdict,
        turns=tuple(map(_turn, turns)),
        category=read_text(document, "category", limit=LONGEST_NAME, default=""),
        source=read_text(document, "source", limit=LONGEST_NAME, default=OWN),
        provenance=provenance,
    )


def _turn(value: object) -> Turn:
    if not isinstance(value, dict):
        raise unusable("turns")
    reasons = value.get("finish_reasons")
    both = reasons if isinstance(reasons, list) and len(reasons) == 2 else [None, None]
    first, second = (reason if isinstance(reason, str) and len(reason) <= 64 else None for reason in both)
    return Turn(
        question=read_text(value, "question"),
        answers=read_pair(value, "answers", limit=LONGEST_TEXT),
        finish_reasons=(first, second),
    )


def read_text(
    document: Mapping[str, Any], name: str, *, limit: int = LONGEST_TEXT, default: str | None = None
) -> str:
    """The text in the field ``name``. Raises ValueError for any other value, or one that is too long."""
    value = document.get(name, default)
    if not isinstance(value, str) or len(value) > limit:
        raise unusable(name)
    return _whole(value)


def read_pair(document: Mapping[str, Any], name: str, *, limit: int) -> tuple[str, str]:
    """The two texts in the field ``name``. Raises ValueError."""
    value = document.get(name)
    if not isinstance(value, list) or len(value) != 2:
        raise unusable(name)
    first, second = value
    if not (isinstance(first, str) and isinstance(second, str)) or max(map(len, value)) > limit:
        raise unusable(name)
    return _whole(first), _whole(second)


def _whole(text: str) -> str:
    """``text`` without halves of a character, which JSON can hold and a file cannot."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def read_time(document: Mapping[str, Any], name: str) -> datetime | None:
    """The time in ISO 8601 in the field ``name``, in UTC where it names no zone; None where there is none
    that can be read: a vote counts without it."""
    value = document.get(name)
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        time = datetime.fromisoformat(value.strip().removesuffix("Z").replace("/", "-"))
        time = time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
        return time.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def unusable(name: str) -> ValueError:
    """The complaint about a field."""
    return ValueError(_("the field {name!r} is missing or unusable").format(name=name))


def models_of(votes: Sequence[Vote]) -> list[str]:
    """The names of all models, in the order in which they first appear."""
    return list(dict.fromkeys(name for vote in votes for name in vote.models))

"""Votes in the fields of the published LLMChat records, one JSON object a line.

The fields are question, answer_1, answer_2, evaluation, model_1, model_2, created_time. A conversation of
several turns has its texts joined there, and ``turns`` as a field of its own; a category has one, too.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.labels import EXPORTED, meanings
from tanuki_cli.evaluation.arena.votes import (
    FORMAT_NAME,
    LONGEST_NAME,
    MOST_TURNS,
    Ballots,
    Turn,
    Verdict,
    Vote,
    VoteFile,
    read_text,
    read_time,
    unusable,
)
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut, read_lines

FIELDS: Final = ("question", "answer_1", "answer_2", "evaluation", "model_1", "model_2", "created_time")


def export_line(vote: Vote) -> str:
    """``vote`` as one line."""
    record: dict[str, Any] = {
        "question": "\n\n".join(turn.question for turn in vote.turns),
        "answer_1": vote.text(0),
        "answer_2": vote.text(1),
        "evaluation": EXPORTED[vote.verdict],
        "model_1": vote.models[0],
        "model_2": vote.models[1],
        "created_time": None if vote.time is None else vote.time.astimezone(timezone.utc).isoformat(),
    }
    if vote.category:
        record["category"] = vote.category
    if len(vote.turns) > 1:
        record["turns"] = [
            {"question": turn.question, "answer_1": turn.answers[0], "answer_2": turn.answers[1]}
            for turn in vote.turns
        ]
    return json.dumps(record, ensure_ascii=False) + "\n"


class _Record(Struct, frozen=True, kw_only=True):
    label: str
    models: tuple[str, str]
    turns: tuple[Turn, ...]
    time: datetime | None
    category: str


def read_records(path: Path, given: Mapping[str, Verdict], *, source: str) -> Ballots:
    """The votes of a file of such records, with what its labels mean by ``given`` or for certain.

    Raises InputError if it cannot be read, holds no record at all, or has labels that are not certain.
    """
    records, left_out = _read(path)
    if not records:
        raise InputError(
            _("{path}, line {line}, cannot be used: {reason}").format(
                path=path, line=left_out[0].line, reason=left_out[0].reason
            )
            if left_out
            else _("{path} holds no records of votes.").format(path=path),
            hint=_("One JSON object a line with: {fields}").format(fields=", ".join(FIELDS)),
        )
    verdicts = meanings(Counter(record.label for record in records), given, name=str(path))
    votes = tuple(
        Vote(
            time=record.time,
            models=record.models,
            verdict=verdicts[record.label],
            turns=record.turns,
            category=record.category,
            source=source,
        )
        for record in records
    )
    return Ballots(votes=votes, left_out=tuple(left_out))


def _read(path: Path) -> tuple[list[_Record], list[LeftOut]]:
    records: list[_Record] = []
    left_out: list[LeftOut] = []
    for number, document in read_lines(path):
        if isinstance(document, LeftOut):
            left_out.append(document)
            continue
        try:
            records.append(_record(document))
        except ValueError as exc:
            left_out.append(LeftOut(path=path, line=number, reason=str(exc)))
    return records, left_out


def _record(document: Mapping[str, Any]) -> _Record:
    models = (
        read_text(document, "model_1", limit=LONGEST_NAME),
        read_text(document, "model_2", limit=LONGEST_NAME),
    )
    if not all(models):
        raise unusable("model_1")
    if models[0] == models[1]:
        raise ValueError(_("a model is compared with itself"))
    return _Record(
        label=_label(document),
        models=models,
        turns=_turns(document),
        time=_created(document),
        category=read_text(document, "category", limit=LONGEST_NAME, default=""),
    )


def _created(document: Mapping[str, Any]) -> datetime | None:
    """In ISO 8601, or in seconds or milliseconds since 1970."""
    value = document.get("created_time")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return read_time(document, "created_time")
    try:
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def _label(document: Mapping[str, Any]) -> str:
    value = document.get("evaluation")
    if isinstance(value, str) and len(value) <= LONGEST_NAME:
        return value
    if "evaluation" in document and (value is None or isinstance(value, (bool, int, float))):
        return json.dumps(value)
    raise unusable("evaluation")


def _turns(document: Mapping[str, Any]) -> tuple[Turn, ...]:
    turns = document.get("turns")
    if turns is None:
        turns = [document]
    if not isinstance(turns, list) or not 1 <= len(turns) <= MOST_TURNS:
        raise unusable("turns")
    found = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise unusable("turns")
        answers = read_text(turn, "answer_1"), read_text(turn, "answer_2")
        found.append(Turn(question=read_text(turn, "question"), answers=answers))
    return tuple(found)


def content_key(vote: Vote) -> str:
    """What two records of one and the same vote have in common, wherever they have been."""
    texts = [[turn.question, *turn.answers] for turn in vote.turns]
    time = None if vote.time is None else vote.time.timestamp()
    return json.dumps([vote.models, vote.verdict, vote.category, time, texts])


def not_yet_there(votes: Sequence[Vote], present: Iterable[Vote]) -> list[Vote]:
    """Those of ``votes`` that ``present`` lacks; a record that stands ``n`` times is there ``n`` times."""
    left = Counter(map(content_key, present))
    missing = []
    for vote in votes:
        key = content_key(vote)
        if left[key] > 0:
            left[key] -= 1
        else:
            missing.append(vote)
    return missing


def read_any(path: Path, given: Mapping[str, Verdict], *, source: str) -> Ballots:
    """The votes of a file of :class:`VoteFile`, else its records under the name ``source``.

    Raises InputError as :func:`read_records` and :meth:`VoteFile.read`; for a file that is not there, too.
    """
    first = next((line for _number, line in read_lines(path) if not isinstance(line, LeftOut)), {})
    if first.get("format") == FORMAT_NAME:
        return VoteFile(path).read()
    return read_records(path, given, source=source)

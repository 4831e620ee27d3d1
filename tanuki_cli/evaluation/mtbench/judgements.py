"""Judgements: the score in a judge's words, and the files they are kept in.

FastChat writes one record a judgement to ``<judge>_single.jsonl``; its forks write one file a model and
turn below ``<judge>_single/``, and Swallow's one record with lists for all choices. All are read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.evaluation.mtbench.questions import category_of, question_id
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, read_lines

JUDGEMENT_FOLDER: Final = "model_judgment"
NO_SCORE: Final = -1
NO_JUDGEMENT: Final = "$ERROR$"
"""What FastChat writes where the judge gave nothing."""

_SCORE: Final = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SCORE_FALLBACK: Final = re.compile(r"\[(\d+\.?\d*)\]")
_MAX_DIGITS: Final = 20
_MOST: Final = 1e6
"""No score is as large; means of what is larger would overflow."""

Score = int | float


class Judgement(Struct, frozen=True, kw_only=True):
    """One score of one turn of one choice; ``score`` is :data:`NO_SCORE` where none could be read.

    ``asked`` is :func:`digest_of_prompt` of what the judge was asked, where the record tells it, and
    ``provenance`` where a judgement of this program comes from.
    """

    question_id: int
    model: str
    judge: str
    prompt: str
    turn: int
    choice: int
    score: Score
    category: str | None = None
    asked: str | None = None
    provenance: JsonObject | None = None

    @property
    def key(self) -> tuple[int, str, str, int, int]:
        """What may be judged once only."""
        return self.question_id, self.model, self.judge, self.turn, self.choice

    @property
    def readable(self) -> bool:
        """Whether a score was found."""
        return self.score != NO_SCORE


def digest_of_prompt(user_prompt: str, prompt_digest: object) -> str:
    """Tells whether two judgements are of the same text by the same prompt.

    ``prompt_digest`` is that of the :class:`JudgePrompt`, whose system prompt is not part of
    ``user_prompt``; None for records that do not tell it.
    """
    text = f"{prompt_digest if isinstance(prompt_digest, str) else ''}\n{user_prompt}"
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]


def read_score(text: str) -> Score:
    """The first ``[[score]]`` of a judge's answer, else the first ``[score]``, else -1; FastChat's rule."""
    match = _SCORE.search(text) or _SCORE_FALLBACK.search(text)
    if match is None or len(match[1]) > _MAX_DIGITS:
        return NO_SCORE
    return float(match[1]) if "." in match[1] else int(match[1])


def judgement_path(folder: Path, judge: str) -> Path:
    """Where the judgements of a judge are."""
    return folder / JUDGEMENT_FOLDER / f"{judge}_single.jsonl"


def judgement_files(folder: Path) -> list[Path]:
    """All files of judgements in either layout below ``folder``."""
    base = folder / JUDGEMENT_FOLDER
    return sorted([*base.glob("*_single.jsonl"), *base.glob("*_single/*.jsonl")])


def pair_files(folder: Path) -> list[Path]:
    """The files of judgements of pairs below ``folder``; empty ones are in published copies."""
    return [path for path in sorted((folder / JUDGEMENT_FOLDER).glob("*_pair.jsonl")) if path.stat().st_size]


def read_judgements(paths: Iterable[Path]) -> tuple[list[Judgement], list[LeftOut]]:
    """Every judgement of ``paths`` in their order, and the lines that are none.

    Raises InputError for a file that cannot be read.
    """
    judgements: list[Judgement] = []
    left_out: list[LeftOut] = []
    for path in paths:
        for number, value in read_lines(path):
            if isinstance(value, LeftOut):
                left_out.append(value)
                continue
            found = list(_judgements(value))
            judgements += found
            if not found:
                left_out.append(LeftOut(path=path, line=number, reason=_("it is not a judgement")))
    return judgements, left_out


def _judgements(value: JsonObject) -> Iterator[Judgement]:
    """The judgements of one record: one, or in Swallow's form one for each choice."""
    id_, model, turn = question_id(value), value.get("model"), value.get("turn", 1)
    judge, prompt = _judge(value.get("judge"))
    if (
        id_ is None
        or not isinstance(model, str)
        or isinstance(turn, bool)
        or turn not in (1, 2)
        or judge is None
    ):
        return
    listed = value.get("score")
    scores = listed if isinstance(listed, list) else [listed]
    if not all(_is_score(score) for score in scores):
        return
    category, provenance = value.get("category"), value.get("provenance")
    asked = _asked(value, len(scores))
    start = _index(value.get("choice"))
    for index, score in enumerate(scores, start=start):
        yield Judgement(
            question_id=id_,
            model=model,
            judge=judge,
            prompt=prompt,
            turn=int(turn),
            choice=index,
            score=score,
            category=category.lower() if isinstance(category, str) else category_of(id_),
            asked=asked[index - start],
            provenance=provenance if isinstance(provenance, Mapping) else None,
        )


def _judge(value: object) -> tuple[str | None, str]:
    """Who judged by which prompt: FastChat writes a pair."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return value[0], value[1] if len(value) > 1 else ""
    return None, ""


def _asked(value: JsonObject, count: int) -> list[str | None]:
    prompts = value.get("user_prompt")
    listed = prompts if isinstance(prompts, list) else [prompts]
    if len(listed) != count:
        return [None] * count
    digest = value.get("prompt_digest")
    return [digest_of_prompt(one, digest) if isinstance(one, str) else None for one in listed]


def _is_score(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -_MOST <= value <= _MOST  # which NaN is not


def _index(value: object) -> int:
    """The choice that a record is about; FastChat's own are about the first."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

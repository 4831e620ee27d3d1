"""The judge's prompts: read from FastChat's file, chosen by name, filled in.

FastChat fills them with ``str.format``, which lets a file reach into objects and make huge texts; here
only the plain names of :data:`PLACEHOLDERS` are replaced.
"""

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.questions import NEEDS_REFERENCE, BenchQuestion, References
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, read_lines

MULTI_TURN: Final = "-multi-turn"
PLACEHOLDERS: Final = frozenset(
    ("question", "answer", "ref_answer_1", "ref_answer_2", "question_1", "question_2", "answer_1", "answer_2")
)
_RATINGS: Final = ("[[rating]]", "[[評価]]")
"""The output formats whose score :func:`~tanuki_cli.evaluation.mtbench.judging.read_score` finds."""


class JudgePrompt(Struct, frozen=True, kw_only=True):
    """One prompt; ``parts`` are its literal texts, each with the placeholder that follows it."""

    name: str
    system: str
    parts: tuple[tuple[str, str | None], ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """The user's message for the judge. Raises KeyError for a placeholder without a value."""
        return "".join(text + ("" if name is None else values[name]) for text, name in self.parts)

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of name, system prompt and template."""
        text = repr((self.name, self.system, self.parts))
        return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]

    @property
    def placeholders(self) -> frozenset[str]:
        """The names that :meth:`fill` needs."""
        return frozenset(name for _text, name in self.parts if name is not None)


class JudgePrompts(Struct, frozen=True, kw_only=True):
    """Prompts by name. ``digest`` tells sets of prompts apart in records."""

    by_name: Mapping[str, JudgePrompt]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of those of its prompts."""
        digests = "".join(sorted(prompt.digest for prompt in self.by_name.values()))
        return hashlib.sha256(digests.encode()).hexdigest()[:16]

    @property
    def turns(self) -> tuple[int, ...]:
        """The turns that can be judged: the second only with both of its forms."""
        return (1, 2) if all(name_for(math, 2) in self.by_name for math in (False, True)) else (1,)

    def prompt_for(self, question: BenchQuestion, turn: int) -> JudgePrompt:
        """The prompt of a question's category and turn."""
        return self.by_name[name_for(question.category in NEEDS_REFERENCE, turn)]


def name_for(referenced: bool, turn: int) -> str:
    """FastChat's name of a prompt."""
    return ("single-math-v1" if referenced else "single-v1") + (MULTI_TURN if turn == 2 else "")


def read_prompts(path: Path, *, multi_turn: Path | None = None) -> JudgePrompts:
    """The prompts of ``path`` for scores; those for pairs are passed over.

    ``multi_turn`` is another file that the forms for the second turn come from. Raises InputError if a
    file cannot be read, or lacks what it is read for.
    """
    prompts, left_out = _read(path)
    _require(path, prompts, 1)
    if multi_turn is not None:
        others, more = _read(multi_turn)
        _require(multi_turn, others, 2)
        prompts |= {name: prompt for name, prompt in others.items() if name.endswith(MULTI_TURN)}
        left_out += more
    return JudgePrompts(by_name=prompts, left_out=tuple(left_out))


def _read(path: Path) -> tuple[dict[str, JudgePrompt], list[LeftOut]]:
    prompts = {}
    left_out = []
    for number, value in read_lines(path):
        if isinstance(value, LeftOut):
            left_out.append(value)
        elif value.get("type") == "single":
            try:
                prompt = _prompt(value)
                prompts[prompt.name] = prompt
            except ValueError as exc:
                left_out.append(LeftOut(path=path, line=number, reason=str(exc)))
    return prompts, left_out


def _prompt(value: JsonObject) -> JudgePrompt:
    name, system, template = (value.get(key) for key in ("name", "system_prompt", "prompt_template"))
    if not (isinstance(name, str) and isinstance(system, str) and isinstance(template, str)):
        raise ValueError(_("it is not a judge prompt"))
    if value.get("output_format") not in _RATINGS:
        raise ValueError(_("its output format is not {formats}").format(formats=" / ".join(_RATINGS)))
    return JudgePrompt(name=name, system=system, parts=tuple(_parts(template)))


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ValueError(_("its placeholders cannot be read")) from exc
    for text, field, spec, conversion in parsed:
        if field is not None and (field not in PLACEHOLDERS or spec or conversion):
            raise ValueError(_("it has the unknown placeholder {name!r}").format(name=field))
        yield text, field


def _require(path: Path, prompts: Mapping[str, JudgePrompt], turn: int) -> None:
    missing = [name for name in (name_for(False, turn), name_for(True, turn)) if name not in prompts]
    if missing:
        raise InputError(
            _("{path} lacks the judge prompt {names}.").format(path=path, names=", ".join(missing)),
            hint=_("FastChat's own file is judge_prompts.jsonl: --judge-prompts FILE"),
        )


def needed_references(questions: Iterable[BenchQuestion], references: References | None) -> list[int]:
    """The ids of questions whose reference answer is missing."""
    answers: Mapping[int, Sequence[str]] = references.answers if references else {}
    return [
        question.id
        for question in questions
        if question.category in NEEDS_REFERENCE and len(answers.get(question.id, ())) < len(question.turns)
    ]

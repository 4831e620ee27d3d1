"""Questions to put to the models: a file of lines, or of JSON objects as FastChat keeps them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.votes import LONGEST_NAME, LONGEST_TEXT, MOST_TURNS, read_text, unusable
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut, read_lines
from tanuki_cli.prompt import guarded
from tanuki_cli.text.decoding import read_text_file

MOST_QUESTIONS: Final = 10_000
_TEXT_FIELDS: Final = ("question", "prompt", "text", "instruction", "input")


class Question(Struct, frozen=True, kw_only=True):
    """What is asked, turn by turn."""

    turns: tuple[str, ...]
    category: str = ""


def read_questions(
    path: Path, *, category: str = "", note: Callable[[str], None] = lambda text: None
) -> list[Question]:
    """The questions of ``path``, each once, in its order.

    Every line that is not blank is a question. In a ``.jsonl`` file it is an object whose ``turns`` is a
    list of texts, or with one text under question, prompt, text, instruction or input; ``category`` is
    optional, and what is given here stands in for it. Lines that imitate a turn of the prompt format are
    kept from opening one, and ``note`` is told. Raises InputError that names the line.
    """
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        questions = [_question(path, number, line, category) for number, line in read_lines(path)]
    else:
        lines = read_text_file(path).split("\n")
        questions = [Question(turns=(line.strip(),), category=category) for line in lines if line.strip()]
    if not questions:
        raise InputError(
            _("{path} holds no questions.").format(path=path),
            hint=_("One question a line, or JSON objects with turns and category in a .jsonl file."),
        )
    if len(questions) > MOST_QUESTIONS or max(map(_length, questions)) > LONGEST_TEXT:
        raise InputError(
            _("{path} holds more than {count} questions, or one that is too long.").format(
                path=path, count=MOST_QUESTIONS
            ),
            hint="head -n 100",
        )
    return _distinct(_guarded(question, path, note) for question in questions)


def _question(path: Path, number: int, line: Mapping[str, Any] | LeftOut, category: str) -> Question:
    try:
        if isinstance(line, LeftOut):
            raise ValueError(line.reason)
        return Question(
            turns=_turns(line),
            category=read_text(line, "category", limit=LONGEST_NAME, default=category),
        )
    except ValueError as exc:
        raise InputError(
            _("{path}, line {line}, cannot be used: {reason}").format(path=path, line=number, reason=exc),
            hint='{"turns": ["…", "…"], "category": "…"}',
        ) from exc


def _turns(line: Mapping[str, Any]) -> tuple[str, ...]:
    turns = line.get("turns")
    if turns is None:
        name = next((name for name in _TEXT_FIELDS if name in line), _TEXT_FIELDS[0])
        turns = [read_text(line, name)]
    if not isinstance(turns, list) or not 1 <= len(turns) <= MOST_TURNS:
        raise unusable("turns")
    if not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise unusable("turns")
    return tuple(turns)


def _guarded(question: Question, path: Path, note: Callable[[str], None]) -> Question:
    turns = tuple(guarded(turn, name=str(path), note=note) for turn in question.turns)
    return replace(question, turns=turns)


def _length(question: Question) -> int:
    return max(map(len, question.turns))


def _distinct(questions: Iterable[Question]) -> list[Question]:
    return list({question.turns: question for question in questions}.values())

"""The files of answers: FastChat's records, and what waits beside them.

A question's record is written when all its choices are there. Until then every turn is kept in a file of
its own, so that a killed run loses at most the turn it was in.
"""

import secrets
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.presets import Preset
from tanuki_cli.evaluation.mtbench.questions import BenchQuestion, question_id, texts
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, RecordFile, read_lines

ANSWER_FOLDER: Final = "model_answer"
_ID_CHARACTERS: Final = string.ascii_letters + string.digits


class AnswerRun(Struct, frozen=True, kw_only=True):
    """One run: which model answers how. ``system`` None is the model's own system prompt."""

    model_id: str
    preset: Preset
    choices: int
    system: str | None
    provenance: Provenance


class Answer(Struct, frozen=True, kw_only=True):
    """The answers to one question: for every choice the texts of its turns."""

    question_id: int
    answer_id: str | None
    choices: tuple[tuple[str, ...], ...]
    provenance: JsonObject | None = None


def answer_path(folder: Path, model_id: str) -> Path:
    """Where the answers of a model are."""
    return folder / ANSWER_FOLDER / f"{model_id}.jsonl"


def read_answers(path: Path) -> tuple[dict[int, Answer], list[LeftOut]]:
    """The answers of one model by question id; of several for one question the last counts, as in FastChat.

    Raises InputError if the file cannot be read.
    """
    answers: dict[int, Answer] = {}
    left_out = []
    for number, value in read_lines(path):
        answer = value if isinstance(value, LeftOut) else _answer(path, number, value)
        if isinstance(answer, LeftOut):
            left_out.append(answer)
        else:
            answers[answer.question_id] = answer
    return answers, left_out


def _answer(path: Path, number: int, value: JsonObject) -> Answer | LeftOut:
    id_, listed = question_id(value), value.get("choices")
    choices = [
        texts(choice.get("turns")) if isinstance(choice, Mapping) else ()
        for choice in (listed if isinstance(listed, list) else [])
    ]
    if id_ is None or not choices or not all(choices):
        return LeftOut(path=path, line=number, reason=_("it is not an answer"))
    answer_id, provenance = value.get("answer_id"), value.get("provenance")
    return Answer(
        question_id=id_,
        answer_id=answer_id if isinstance(answer_id, str) else None,
        choices=tuple(choices),
        provenance=provenance if isinstance(provenance, Mapping) else None,
    )


class AnswerFile:
    """``<folder>/model_answer/<model>.jsonl``, and beside it the turns of answers that are not whole.

    A context manager; entering raises InputError if what is there is of another run.
    """

    def __init__(self, folder: Path, run: AnswerRun) -> None:
        self.answered: set[int] = set()
        self.turns: dict[tuple[int, int, int], JsonObject] = {}
        self._run = run
        self._provenance = run.provenance.to_json()
        self._records = RecordFile(answer_path(folder, run.model_id))
        self._waiting = RecordFile(self._records.path.with_suffix(".turns"), lock=False)
        self._stack = ExitStack()

    def __enter__(self) -> "AnswerFile":
        with ExitStack() as stack:
            stack.enter_context(self._records)
            stack.enter_context(self._waiting)
            self._read()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _read(self) -> None:
        answers, _left_out = read_answers(self._records.path)
        for answer in answers.values():
            self._check(answer.provenance)
        self.answered = set(answers)
        for _number, value in read_lines(self._waiting.path):
            if isinstance(value, LeftOut):
                continue
            self._check(value.get("provenance"))
            id_, choice, turn = (value.get(name) for name in ("question_id", "choice", "turn"))
            if isinstance(id_, int) and isinstance(choice, int) and isinstance(turn, int):
                self.turns[id_, choice, turn] = value

    def _check(self, provenance: object) -> None:
        theirs, ours = _identity(provenance), _identity(self._provenance)
        differing = [name for name in ours if theirs.get(name) != ours[name]]
        if differing:
            raise InputError(
                _("{path} holds answers of another run; these differ: {names}.").format(
                    path=self._records.path, names=", ".join(differing)
                ),
                hint=_("Give this run a name or a folder of its own: --model-id NAME, --output FOLDER"),
            )

    def keep(self, question: BenchQuestion, choice: int, turn: int, values: JsonObject) -> None:
        """Save one turn of an answer that is not whole yet."""
        key = {"question_id": question.id, "choice": choice, "turn": turn}
        entry = {**values, **key, "provenance": self._provenance}
        self._waiting.append(entry)
        self.turns[question.id, choice, turn] = entry

    def finish(self, question: BenchQuestion) -> None:
        """Write the record of a question all of whose turns are there."""
        indices = range(len(question.turns))
        choices = [
            [self.turns[question.id, choice, turn] for turn in indices] for choice in range(self._run.choices)
        ]
        self._records.append({**_record(question, choices, self._run), "provenance": self._provenance})
        self.answered.add(question.id)

    def forget_turns(self) -> None:
        """Remove the file of single turns, if each of them is in a record by now."""
        if all(id_ in self.answered for id_, _choice, _turn in self.turns):
            self._waiting.remove()


def _identity(provenance: object) -> dict[str, object]:
    """What must stay the same from one run to its continuation."""
    if not isinstance(provenance, Mapping):
        return {}
    options, models = provenance.get("options"), provenance.get("models")
    model = models[0] if isinstance(models, Sequence) and models else None
    known = model if isinstance(model, Mapping) else {}
    options = options if isinstance(options, Mapping) else {}
    return {
        **{name: known.get(name) for name in ("name", "engine", "sha256", "context_length")},
        **{name: value for name, value in options.items() if name != "data"},
    }


def _record(
    question: BenchQuestion, choices: Sequence[Sequence[JsonObject]], run: AnswerRun
) -> dict[str, Any]:
    """FastChat's record, with ``generate_params`` as its Japanese branch writes them, and our own fields."""
    options = run.preset.options(question.category, 0)
    return {
        "question_id": question.id,
        "answer_id": "".join(secrets.choice(_ID_CHARACTERS) for _place in range(22)),
        "model_id": run.model_id,
        "choices": [
            {"index": index, "turns": [turn["text"] for turn in turns]} for index, turns in enumerate(choices)
        ],
        "tstamp": time.time(),
        "generate_params": {
            "prompt": run.system,
            "do_sample": not options.greedy,
            "max_new_token": options.max_new_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "repetition_penalty": options.repeat_penalty,
            "seeds": list(range(run.choices)),
        },
        "category": question.category,
        "finish_reasons": [[turn["finish_reason"] for turn in turns] for turns in choices],
        "completion_tokens": [[turn["completion_tokens"] for turn in turns] for turns in choices],
    }

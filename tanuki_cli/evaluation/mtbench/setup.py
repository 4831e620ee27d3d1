"""Puts a run together: the user's copy of the bench, the names of files, what is written down of it all."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.answers import ANSWER_FOLDER, Answer, AnswerRun, read_answers
from tanuki_cli.evaluation.mtbench.judging import JUDGE_OPTIONS, JudgeRun
from tanuki_cli.evaluation.mtbench.presets import PRESETS, Preset
from tanuki_cli.evaluation.mtbench.prompts import needed_references, read_prompts
from tanuki_cli.evaluation.mtbench.questions import (
    MINI_FOLDER,
    BenchFolder,
    QuestionSet,
    find_bench,
    missing_data,
    most_questions,
    read_references,
)
from tanuki_cli.evaluation.provenance import ModelSource, Provenance
from tanuki_cli.files import real_path
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut, read_lines
from tanuki_cli.sampling import SamplingOptions

MINI: Final = "mini"
"""What records call the set that comes with the program: its path differs from machine to machine."""
_MAX_NAME: Final = 120


class Bench(Struct, frozen=True, kw_only=True):
    """The user's copy, or the mini set; ``data`` names it in records."""

    data: str
    folder: BenchFolder
    questions: QuestionSet

    @property
    def mini(self) -> bool:
        """Whether it is the set that comes with the program."""
        return self.data == MINI


class JudgeFiles(Struct, frozen=True, kw_only=True):
    """Files that the user named instead of those of the copy; None leaves the choice to it."""

    prompts: Path | None = None
    multi_turn: Path | None = None
    references: Path | None = None


def open_bench(data: Path | None, *, mini: bool) -> Bench:
    """Read the questions. Raises InputError that says where they are published if there are none."""
    if mini:
        folder, name = find_bench(MINI_FOLDER), MINI
    elif data is None:
        raise missing_data()
    else:
        folder, name = find_bench(data), str(real_path(data))
    return Bench(data=name, folder=folder, questions=most_questions(folder.questions))


def reopen_bench(made_with: Provenance) -> Bench:
    """The bench that a record was made with. Raises InputError if it is not there any more."""
    data = made_with.options.get("data")
    mini = data == MINI
    return open_bench(Path(data) if isinstance(data, str) and not mini else None, mini=mini)


def read_provenance(path: Path, command: str) -> Provenance:
    """Where the newest record of ``path`` comes from; it must be one of ``command``.

    Raises InputError if it does not tell.
    """
    found: Provenance | None = None
    for _number, value in read_lines(path):
        if not isinstance(value, LeftOut):
            found = _provenance(value.get("provenance")) or found
    if found is None or found.command != command or not found.models:
        raise InputError(
            _("{path} holds no record of tanuki {command}.").format(path=path, command=command),
            hint=_("Name a file of the folder that an earlier run wrote to."),
        )
    return found


def last_provenance(answers: Mapping[str, Mapping[int, Answer]]) -> Provenance | None:
    """Where the answers come from, if a record tells."""
    records = [answer.provenance for answered in answers.values() for answer in answered.values()]
    return next((found for record in reversed(records) if (found := _provenance(record))), None)


def _provenance(record: object) -> Provenance | None:
    try:
        return Provenance.from_json(record)
    except ValueError:
        return None


def check_questions(bench: Bench, answers: Mapping[str, Mapping[int, Answer]]) -> None:
    """Raises InputError if answers were given to other questions than those of ``bench``."""
    for model, answered in answers.items():
        for answer in answered.values():
            record = _provenance(answer.provenance)
            digest = record.options.get("questions") if record else None
            if digest is not None and digest != bench.questions.digest:
                raise InputError(
                    _("The answers of {model} are to other questions than those of {path}.").format(
                        model=model, path=bench.questions.path
                    ),
                    hint=_("Name the questions that were answered: --data PATH"),
                )


def file_name(text: str) -> str:
    """``text`` as the stem of a file on any system, e.g. ``tanuki-8b-q4_k_m``."""
    folded = unicodedata.normalize("NFKC", text)
    return re.sub(r"[^\w.@+=-]+", "-", folded).strip("-.")[:_MAX_NAME] or "model"


def answer_run(
    bench: Bench, source: ModelSource, *, model_id: str, preset: Preset, choices: int, system: str | None
) -> AnswerRun:
    """What a run of ``mtbench answer`` needs to know and writes down."""
    wording = bench.questions.wording
    options = {
        "data": bench.data,
        "questions": bench.questions.digest,
        "wording": wording.name if wording else None,
        "preset": preset.name,
        "choices_per_question": choices,
        "system": system,
    }
    sampling = {
        category: sampling_json(preset.options(category, 0))
        for category in sorted(set(bench.questions.categories().values()))
    }
    provenance = Provenance.now("mtbench answer", [source], options=options, sampling=sampling)
    return AnswerRun(model_id=model_id, preset=preset, choices=choices, system=system, provenance=provenance)


def sampling_json(options: SamplingOptions) -> dict[str, Any]:
    """The sampling options that a preset sets; the seed is the choice's index."""
    return {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": options.min_p,
        "repeat_penalty": options.repeat_penalty,
        "max_new_tokens": options.max_new_tokens,
    }


def preset_named(name: str) -> Preset:
    """The preset of that name. Raises InputError that lists them."""
    if name not in PRESETS:
        raise InputError(
            _("There is no preset {name!r}; there are: {names}").format(name=name, names=", ".join(PRESETS)),
            hint="--preset card",
        )
    return PRESETS[name]


def judge_files(named: JudgeFiles, before: Provenance | None, bench: Bench) -> JudgeFiles:
    """The files that the user named, else those of the run that is made again."""
    if before is None or bench.data != before.options.get("data"):
        return named
    kept = {
        name: Path(value)
        for name in ("prompts", "multi_turn", "references")
        if isinstance(value := before.options.get(f"{name}_file"), str)
    }
    given = {name: path for name in kept if (path := getattr(named, name)) is not None}
    return replace(named, **{**kept, **given})


def judge_run(bench: Bench, source: ModelSource, files: JudgeFiles, *, judge: str) -> JudgeRun:
    """What a run of ``mtbench judge`` needs to know and writes down.

    Raises InputError that names what is missing: the prompts, or a reference answer.
    """
    prompts_path = files.prompts or next(iter(bench.folder.prompts), None)
    if prompts_path is None:
        raise InputError(
            _("{folder} holds no judge prompts (judge_prompts.jsonl).").format(folder=bench.data),
            hint=_("They are in the folder above the questions in FastChat: --judge-prompts FILE"),
        )
    prompts = read_prompts(prompts_path, multi_turn=files.multi_turn)
    references_path = files.references or bench.folder.references_for(judge)
    references = read_references(references_path) if references_path else None
    missing = needed_references(bench.questions.questions, references)
    if missing:
        raise InputError(
            _(
                "Reference answers are missing for the questions {ids}; math, reasoning and coding need them."
            ).format(ids=_some(missing)),
            hint=_("They are in the folder reference_answer of the copy, or: --references FILE"),
        )
    options = {
        "data": bench.data,
        "questions": bench.questions.digest,
        "prompts": prompts.digest,
        "prompts_file": _path(prompts_path),
        "multi_turn_file": _path(files.multi_turn),
        "references_file": _path(references_path),
    }
    return JudgeRun(
        judge=judge,
        prompts=prompts,
        prompt_file=prompts_path,
        references=references,
        provenance=Provenance.now(
            "mtbench judge", [source], options=options, sampling=sampling_json(JUDGE_OPTIONS)
        ),
    )


def _path(path: Path | None) -> str | None:
    """``path`` for a record; None for the program's own files, which are found by themselves."""
    return None if path is None or path.is_relative_to(MINI_FOLDER) else str(real_path(path))


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")


def answered_models(folder: Path, names: Sequence[str]) -> dict[str, dict[int, Answer]]:
    """The answers below ``folder`` by model, of all models or of ``names``.

    Raises InputError if there are none, or none of a model that was named.
    """
    files = {path.stem: path for path in sorted((folder / ANSWER_FOLDER).glob("*.jsonl"))}
    for name in names or files:
        if name not in files:
            raise InputError(
                _("{folder} holds no answers of {name}; there are: {names}").format(
                    folder=folder, name=name, names=", ".join(files) or "-"
                ),
                hint="tanuki mtbench answer -m …",
            )
    answers = {name: read_answers(files[name])[0] for name in names or files}
    if not any(answers.values()):
        raise InputError(
            _("{folder} holds no answers yet.").format(folder=folder), hint="tanuki mtbench answer -m …"
        )
    return answers

"""Everything that is there about models: judgements and answers of folders and files, counted."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.answers import ANSWER_FOLDER, Answer, read_answers
from tanuki_cli.evaluation.mtbench.judgements import (
    JUDGEMENT_FOLDER,
    judgement_files,
    pair_files,
    read_judgements,
)
from tanuki_cli.evaluation.mtbench.pairs import PAIR_SUFFIX, PairReport, read_pairs, report_pairs
from tanuki_cli.evaluation.mtbench.questions import find_bench, most_questions
from tanuki_cli.evaluation.mtbench.report import ModelReport, report_models
from tanuki_cli.evaluation.mtbench.setup import last_provenance
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.files import real_path
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut

_MOST_NAMES = 8


class Results(Struct, frozen=True, kw_only=True):
    """``sources`` by model says what gave the answers, where their records tell.

    ``pairs`` are judgements of pairs, which FastChat makes as well; ``unreadable_pairs`` do not count.
    """

    reports: tuple[ModelReport, ...]
    pairs: tuple[PairReport, ...]
    unreadable_pairs: int
    sources: dict[str, Provenance]
    left_out: tuple[LeftOut, ...]


def read_results(paths: Sequence[Path], *, data: Path | None, models: Sequence[str]) -> Results:
    """Read and count. ``paths`` are folders as FastChat's, or files of judgements.

    ``data`` has the categories of questions that records do not tell. Raises InputError if there is no
    judgement, or none of a model that was named.
    """
    candidates = list(dict.fromkeys(file for path in paths for file in _judgement_files(path)))
    files = [file for file in candidates if not file.stem.endswith(PAIR_SUFFIX)]
    judgements, left_out = read_judgements(files)
    pairs, unreadable, left_out_pairs = read_pairs(file for file in candidates if file not in files)
    there = {*(one.model for one in judgements), *(name for pair in pairs for name in pair.models)}
    for name in models:
        if name not in there:
            raise InputError(
                _("No answer of {name} is judged there; of these are: {names}").format(
                    name=name, names=", ".join(sorted(there)[:_MOST_NAMES])
                ),
                hint="tanuki mtbench judge --judge https://…/v1#MODEL",
            )
    wanted = [one for one in judgements if not models or one.model in models]
    answers, more = _read_answers(files, {one.model for one in wanted})
    categories = most_questions(find_bench(data).questions).categories() if data else {}
    sources = {model: found for model, those in answers.items() if (found := last_provenance({model: those}))}
    kept = [pair for pair in pairs if not models or set(pair.models) <= set(models)]
    return Results(
        reports=tuple(report_models(wanted, answers, categories)),
        pairs=tuple(report_pairs(kept)),
        unreadable_pairs=unreadable,
        sources=sources,
        left_out=(*left_out, *left_out_pairs, *more),
    )


def _judgement_files(path: Path) -> list[Path]:
    if path.suffix == ".jsonl":
        return [path]
    # A folder of FastChat's own has the name of the bench below it.
    for folder in (path, path / "japanese_mt_bench", path / "mt_bench"):
        if files := [*judgement_files(folder), *pair_files(folder)]:
            return files
    if files := sorted(path.glob("*.jsonl")) if path.parent.name == JUDGEMENT_FOLDER else []:
        return files
    raise InputError(
        _("{folder} holds no judgements yet.").format(folder=path),
        hint="tanuki mtbench judge --judge https://…/v1#MODEL",
    )


def _read_answers(
    judgements: Sequence[Path], models: set[str]
) -> tuple[dict[str, dict[int, Answer]], list[LeftOut]]:
    """The answers that lie beside the files of judgements."""
    answers: dict[str, dict[int, Answer]] = {}
    left_out = []
    for folder in {_bench_folder(path) for path in judgements}:
        for file in sorted((folder / ANSWER_FOLDER).glob("*.jsonl")):
            if file.stem in models:
                found, lines = read_answers(file)
                answers[file.stem] = {**answers.get(file.stem, {}), **found}
                left_out += lines
    return answers, left_out


def _bench_folder(judgements: Path) -> Path:
    """The folder that holds model_answer beside model_judgment."""
    parent = real_path(judgements).parent
    return parent.parent if parent.name == JUDGEMENT_FOLDER else parent.parent.parent

"""Damaged and hostile files: everything readable is read, the rest is told, nothing else happens."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tanuki_cli.cli.mtbench_export import as_csv, as_json, write_radar
from tanuki_cli.errors import TanukiError
from tanuki_cli.evaluation.mtbench.answers import read_answers
from tanuki_cli.evaluation.mtbench.prompts import needed_references, read_prompts
from tanuki_cli.evaluation.mtbench.questions import MINI_FOLDER, read_references
from tanuki_cli.evaluation.mtbench.results import Results, read_results
from tanuki_cli.evaluation.mtbench.setup import (
    JudgeFiles,
    check_questions,
    judge_files,
    open_bench,
    read_provenance,
    reopen_bench,
)
from tanuki_cli.evaluation.provenance import ModelSource, Provenance

SOURCE = ModelSource(reference="r", name="n", engine="e", device="d", context_length=9)
ODD: Final[Sequence[object]] = (
    *(None, True, 0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**63),
    *("", "x", "\ud800", "\x1b[31m", "../../x", "x" * 9000, "1" * 5000, "/x\0y"),
    *([], [[]], {}, {"a": {}}, [None], ["x"], [{"turns": ["x"]}], [{"turns": []}], [1, "a"]),
)


def mutated(value: Any, draw: random.Random) -> Any:
    if draw.random() < 0.06:
        return draw.choice(ODD)
    if isinstance(value, Mapping):
        kept = [name for name in value if draw.random() > 0.02]
        return {name: mutated(value[name], draw) for name in kept}
    return [mutated(one, draw) for one in value] if isinstance(value, list) else value


def write(path: Path, rows: Sequence[Mapping[str, Any]], draw: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        text = json.dumps(mutated(row, draw), ensure_ascii=draw.random() < 0.5)
        line = bytearray(text.encode("utf-8", "surrogatepass"))
        if draw.random() < 0.05:
            line[draw.randrange(len(line))] = draw.randrange(256)
        lines.append(bytes(line))
    path.write_bytes(b"\n".join(lines))


def whole(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (MINI_FOLDER / name).read_text(encoding="utf-8").splitlines()]


def judgements() -> list[dict[str, Any]]:
    provenance = Provenance.now(
        "mtbench judge", [SOURCE], options={"data": "mini", "prompts_file": "x"}
    ).to_json()
    base = {
        "model": "m",
        "judge": ["j", "single-v1"],
        "user_prompt": "a",
        "turn": 2,
        "provenance": provenance,
    }
    return [
        {**base, "question_id": id_, "score": score} for id_, score in enumerate([1, [2, -1, 3], 7.5, -1])
    ]


def read_everything(folder: Path) -> None:
    """All that reads files of others; TanukiErrors are an answer."""
    attempts: tuple[Callable[[], object], ...] = (
        lambda: read_results([folder], data=None, models=[]),
        lambda: read_results([folder], data=folder, models=["m"]),
        lambda: needed_references(
            open_bench(folder, mini=False).questions.questions,
            read_references(folder / "reference_answer" / "tanuki.jsonl"),
        ),
        lambda: read_prompts(folder / "judge_prompts.jsonl"),
        lambda: check_questions(
            open_bench(folder, mini=False), {"m": read_answers(folder / "model_answer" / "m.jsonl")[0]}
        ),
        lambda: reopen_bench(read_provenance(folder / "model_judgment" / "j_single.jsonl", "mtbench judge")),
        lambda: judge_files(
            JudgeFiles(),
            read_provenance(folder / "model_judgment" / "j_single.jsonl", "mtbench judge"),
            open_bench(None, mini=True),
        ),
    )
    for attempt in attempts:
        try:
            found = attempt()
        except TanukiError:
            continue
        if isinstance(found, Results):
            json.dumps(as_json(found))
            as_csv(found)
            write_radar(folder / "radar.svg", found.reports)


@pytest.mark.parametrize("seed", range(40))
def test_no_file_does_what_no_file_may_do(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    answers = [
        {"question_id": id_, "answer_id": "x", "choices": [{"index": 0, "turns": ["狸", "**b**"]}]}
        for id_ in range(4)
    ]
    for name in ("question.jsonl", "judge_prompts.jsonl", "reference_answer/tanuki.jsonl"):
        write(tmp_path / name, whole(name), draw)
    write(tmp_path / "model_answer" / "m.jsonl", answers, draw)
    write(tmp_path / "model_judgment" / "j_single.jsonl", judgements(), draw)
    write(
        tmp_path / "model_judgment" / "j_pair.jsonl",
        [{"model_1": "a", "model_2": "b", "g1_winner": "tie", "g2_winner": "model_1", "judge": ["j"]}] * 3,
        draw,
    )
    read_everything(tmp_path)


def test_the_name_of_a_model_is_no_path(tmp_path: Path) -> None:
    """A record may name any model; only answers that lie where answers lie are read."""
    (tmp_path / "secret.jsonl").write_text('{"question_id": 1, "choices": [{"turns": ["狸"]}]}')
    folder = tmp_path / "bench" / "model_judgment"
    folder.mkdir(parents=True)
    (folder.parent / "model_answer").mkdir()
    rows = [
        {"question_id": 1, "model": name, "judge": ["j", "p"], "score": 5, "turn": 1}
        for name in ("../../secret", "x" * 9000)
    ]
    (folder / "j_single.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = read_results([folder.parent], data=None, models=[])
    assert [report.total.japanese_share for report in results.reports] == [None, None]

"""Answers: FastChat's form, the presets' options, and runs that go on where they were."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.conversation import Message
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import EngineError, InputError, InterruptedByUser
from tanuki_cli.evaluation.mtbench.answers import AnswerRun, answer_path, read_answers
from tanuki_cli.evaluation.mtbench.generating import NO_ANSWER, AnswerProgress, generate_answers
from tanuki_cli.evaluation.mtbench.presets import PRESETS
from tanuki_cli.evaluation.mtbench.questions import CATEGORIES, BenchQuestion
from tanuki_cli.evaluation.mtbench.setup import answer_run, file_name, open_bench
from tanuki_cli.evaluation.provenance import ModelSource
from tests.support.scripted import ScriptedEngine

SOURCE = ModelSource(reference="script", name="script", engine="script", device="none", context_length=4096)
SAMPLED = BenchQuestion(id=1, category="writing", turns=("書いて", "直して"))
GREEDY = BenchQuestion(id=2, category="math", turns=("足して", "引いて"))


def run_of(*, choices: int = 1, preset: str = "card", system: str | None = None) -> AnswerRun:
    bench = open_bench(None, mini=True)
    return answer_run(
        bench, SOURCE, model_id="script", preset=PRESETS[preset], choices=choices, system=system
    )


def generate(
    folder: Path,
    engine: ScriptedEngine,
    run: AnswerRun,
    *questions: BenchQuestion,
    report: Callable[[AnswerProgress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    generate_answers(OneByOne(engine), questions, run, folder, report=report, note=note)


def test_the_presets_are_what_was_published() -> None:
    card, stable = PRESETS["card"], PRESETS["jp-stable"]
    temperatures = {name: [p.options(name, 0).temperature for p in (card, stable)] for name in CATEGORIES}
    assert temperatures == {
        "writing": [0.7, 0.5],
        "roleplay": [0.7, 0.5],
        "stem": [0.1, 0.2],
        "humanities": [0.1, 0.2],
        "extraction": [0.0, 0.2],
        "math": [0.0, 0.1],
        "reasoning": [0.0, 0.1],
        "coding": [0.0, 0.1],
    }
    assert (card.max_new_tokens, card.repeat_penalty, card.top_p) == (1024, 1.0, 1.0)
    assert (stable.max_new_tokens, stable.repeat_penalty, stable.top_p) == (512, 1.1, 0.9)
    assert [card.options("writing", choice).seed for choice in range(3)] == [0, 1, 2]
    assert card.options("something else", 0).temperature == 0.7


def test_records_have_fastchats_form(tmp_path: Path) -> None:
    engine = ScriptedEngine([" 一つめ\n"], ["二つめ"], ["三つめ"], ["四つめ"])
    seen: list[AnswerProgress] = []
    generate(tmp_path, engine, run_of(system="役"), SAMPLED, GREEDY, report=seen.append)
    path = answer_path(tmp_path, "script")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["question_id"] for record in records] == [1, 2]
    assert records[0]["choices"] == [{"index": 0, "turns": ["一つめ", "二つめ"]}]
    assert {"answer_id", "model_id", "tstamp", "generate_params"} <= records[0].keys()
    assert records[0]["generate_params"] == {
        "prompt": "役",
        "do_sample": True,
        "max_new_token": 1024,
        "temperature": 0.7,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "seeds": [0],
    }
    assert records[1]["generate_params"]["do_sample"] is False
    # The second turn follows the model's own first answer, as it was recorded.
    assert engine.seen[1] == [
        Message("system", "役"),
        Message("user", "書いて"),
        Message("assistant", "一つめ"),
        Message("user", "直して"),
    ]
    assert [(one.done, one.total) for one in (seen[0], seen[-1])] == [(0, 4), (4, 4)]
    assert [path.name for path in path.parent.iterdir() if not path.name.startswith(".")] == ["script.jsonl"]


def test_choices_differ_by_seed_and_greedy_ones_are_made_once(tmp_path: Path) -> None:
    engine = ScriptedEngine(*[[f"答え{number}"] for number in range(8)])
    generate(tmp_path, engine, run_of(choices=3), SAMPLED, GREEDY)
    answers, left_out = read_answers(answer_path(tmp_path, "script"))
    assert not left_out
    assert answers[1].choices == (("答え0", "答え1"), ("答え2", "答え3"), ("答え4", "答え5"))
    assert answers[2].choices == (("答え6", "答え7"),) * 3


def test_an_interrupted_run_goes_on_with_the_next_turn(tmp_path: Path) -> None:
    error = EngineError("out of memory")
    for engine in (ScriptedEngine(["一"], ["半", error]), ScriptedEngine(["二"], ["三"], [error])):
        with pytest.raises(EngineError):
            generate(tmp_path, engine, run_of(), SAMPLED, GREEDY)
    generate(tmp_path, ScriptedEngine(["四"]), run_of(), SAMPLED, GREEDY)
    answers, _left_out = read_answers(answer_path(tmp_path, "script"))
    assert {id_: one.choices for id_, one in answers.items()} == {1: (("一", "二"),), 2: (("三", "四"),)}
    generate(tmp_path, ScriptedEngine(), run_of(), SAMPLED, GREEDY)  # nothing is left to ask


def test_ctrl_c_keeps_whole_turns_only(tmp_path: Path) -> None:
    def press_ctrl_c() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedByUser):
        generate(tmp_path, ScriptedEngine(["一"], ["半", press_ctrl_c, "分"]), run_of(), GREEDY)
    generate(tmp_path, ScriptedEngine(["二"]), run_of(), GREEDY)
    answers, _left_out = read_answers(answer_path(tmp_path, "script"))
    assert answers[2].choices == (("一", "二"),)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (run_of(choices=2), "choices_per_question"),
        (run_of(preset="jp-stable"), "preset"),
        (run_of(system="役"), "system"),
        (
            replace(
                run_of(), provenance=replace(run_of().provenance, models=(replace(SOURCE, sha256="0" * 64),))
            ),
            "sha256",
        ),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_answers_of_two_runs_never_mix(tmp_path: Path, other: AnswerRun, named: str, whole: bool) -> None:
    error = EngineError("gone")
    engine = ScriptedEngine(["一"], ["二"]) if whole else ScriptedEngine(["一"], [error])
    try:
        generate(tmp_path, engine, run_of(), SAMPLED)
    except EngineError:
        assert not whole
    with pytest.raises(InputError, match=named) as caught:
        generate(tmp_path, ScriptedEngine(), other, SAMPLED)
    assert "--model-id" in str(caught.value.hint)


def test_a_question_that_does_not_fit_is_told_and_recorded_as_fastchat_does(tmp_path: Path) -> None:
    notes: list[str] = []
    engine = ScriptedEngine([InputError("too long")], ["二"])
    generate(tmp_path, engine, run_of(), SAMPLED, note=notes.append)
    answers, _left_out = read_answers(answer_path(tmp_path, "script"))
    assert answers[1].choices == ((NO_ANSWER, "二"),)
    assert notes == ["Question 1 is not answered: too long"]


def test_answers_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    rows = [
        {"question_id": "3", "choices": [{"index": 0, "turns": ["a"]}]},
        {"question_id": 4, "choices": []},
        {"question_id": 5, "choices": [{"turns": [1]}]},
        {"question_id": 3, "choices": [{"index": 0, "turns": ["b"]}], "provenance": 7},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers, left_out = read_answers(path)
    assert [answer.choices for answer in answers.values()] == [(("b",),)]
    assert [line.line for line in left_out] == [2, 3]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tanuki-8b:q4_k_m", "tanuki-8b-q4_k_m"),
        ("./../etc/passwd", "etc-passwd"),
        ("ｌａｂ (狸)", "lab-狸"),
        ("\x1b[31m", "31m"),
        ("…", "model"),
        ("a" * 1000, "a" * 120),
    ],
)
def test_names_are_names_of_files(text: str, name: str) -> None:
    assert file_name(text) == name

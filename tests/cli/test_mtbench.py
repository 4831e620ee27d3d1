"""``tanuki mtbench`` as its users run it: the practice model answers, a scripted server judges."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.evaluation.mtbench.questions import CATEGORIES, MINI_FOLDER
from tests.support.judge_server import judge_server
from tests.support.program import COMMAND, ROOT, Terminal, environment, run

JAPANESE = {"LANG": "ja_JP.UTF-8"}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three choices of answers to the mini set."""
    home = tmp_path_factory.mktemp("answered")
    done = run(
        home, "mtbench", "answer", "-m", "mame", "--mini", "--choices-per-question", "3", "-o", f"{home}/out"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return home / "out"


@pytest.fixture
def copied(answered: Path, tmp_path: Path) -> Path:
    """The same, to be judged."""
    target = tmp_path / "out" / "model_answer" / "mame.jsonl"
    target.parent.mkdir(parents=True)
    target.write_bytes((answered / "model_answer" / "mame.jsonl").read_bytes())
    return tmp_path / "out"


def test_answers_say_what_made_them_and_can_be_made_again(answered: Path, tmp_path: Path) -> None:
    first = records(answered / "model_answer" / "mame.jsonl")
    assert [one["category"] for one in first] == list(CATEGORIES)
    assert [len(one["choices"]) for one in first] == [3] * 8
    provenance = first[0]["provenance"]
    assert provenance["models"][0]["engine"] == "llama.cpp"
    assert len(provenance["models"][0]["sha256"]) == 64
    assert provenance["options"]["preset"] == "card"
    done = run(
        tmp_path, "mtbench", "answer", "--again", f"{answered}/model_answer/mame.jsonl", "-o", f"{tmp_path}/o"
    )
    assert done.returncode == 0, done.stderr
    again = records(tmp_path / "o" / "model_answer" / "mame-again.jsonl")
    assert [one["choices"] for one in again] == [one["choices"] for one in first]
    wrong = run(
        tmp_path, "mtbench", "judge", "--again", f"{answered}/model_answer/mame.jsonl", "-o", str(answered)
    )
    assert wrong.returncode == 2
    assert "no record of tanuki mtbench judge" in wrong.stderr


def test_judging_and_showing(copied: Path, tmp_path: Path) -> None:
    out = ("-o", str(copied))
    with judge_server() as server:
        judge = (*out, "--judge", server.url)
        dry = run(tmp_path, "mtbench", "judge", *judge, "--dry-run")
        assert "Judgements to make: 48." in dry.stderr
        assert server.requests == []
        assert run(tmp_path, "mtbench", "judge", *judge, "--limit", "5").returncode == 0
        assert len(server.requests) == 5
        done = run(tmp_path, "mtbench", "judge", *judge)
        assert done.returncode == 0, done.stderr
        assert "Judged already: 5." in done.stderr
        assert "Judgements made: 43." in done.stderr
        assert len(server.requests) == 48
        assert "Nothing is left to judge." in run(tmp_path, "mtbench", "judge", *judge).stderr
        again = run(
            tmp_path, "mtbench", "judge", *out, "--again", f"{copied}/model_judgment/gpt-4-0613_single.jsonl"
        )
        assert again.returncode == 0, again.stderr
        assert len(server.requests) == 96
    shown = run(tmp_path, "mtbench", "show", str(copied), "--svg", f"{tmp_path}/radar.svg")
    assert shown.returncode == 0, shown.stderr
    assert "mame, judged by gpt-4-0613\n" in shown.stdout
    assert "mame, judged by gpt-4-0613-again\n" in shown.stdout
    assert "7.24" in shown.stdout
    assert "7.96" in shown.stdout
    titles = re.findall(r"^  (\w+) ", shown.stdout, flags=re.MULTILINE)[:10]
    assert titles[1:9] == ["STEM" if name == "stem" else name.title() for name in CATEGORIES]
    ET.parse(tmp_path / "radar.svg")
    result = json.loads(run(tmp_path, "mtbench", "show", str(copied), "--json").stdout)
    [first, second] = result["models"]
    assert first["total"] == second["total"]
    assert first["total"]["judgements"] == 48
    assert first["choices"] == 3
    assert first["provenance"]["options"]["choices_per_question"] == 3
    assert result["card"] == {"judge": "gpt-4-0613", "averages": {"Tanuki-8B": 7.24, "Tanuki-8x8B": 7.96}}
    rows = list(csv.DictReader(io.StringIO(run(tmp_path, "mtbench", "show", str(copied), "--csv").stdout)))
    assert len(rows) == 18
    assert float(rows[8]["mean"]) == pytest.approx(first["total"]["mean"])


def test_many_at_a_time_leave_the_same_records(answered: Path, copied: Path, tmp_path: Path) -> None:
    alone = ("mtbench", "answer", "-m", "mame", "--mini", "--choices-per-question", "3", "--parallel", "1")
    assert run(tmp_path, *alone, "-o", f"{tmp_path}/alone").returncode == 0
    one, many = (records(folder / "model_answer" / "mame.jsonl") for folder in (tmp_path / "alone", answered))
    assert [record["question_id"] for record in one] == [record["question_id"] for record in many]
    assert [set(record) for record in one] == [set(record) for record in many]
    # Rounding may decide between two tokens that are as good as equal; it hardly ever does.
    texts = [
        [turn for record in found for choice in record["choices"] for turn in choice["turns"]]
        for found in (one, many)
    ]
    same = sum(left == right for left, right in zip(*texts, strict=True))
    assert same >= 0.8 * len(texts[0])
    judged = {}
    for places in ("1", "4"):
        with judge_server() as server:
            name = f"judge{places}"
            judge = ("-o", str(copied), "--judge", server.url, "--judge-name", name, "--parallel", places)
            assert run(tmp_path, "mtbench", "judge", *judge).returncode == 0
        found = records(copied / "model_judgment" / f"{name}_single.jsonl")
        judged[places] = sorted(
            (one["question_id"], one["turn"], one["choice"], one["user_prompt"]) for one in found
        )
    assert judged["1"] == judged["4"]
    assert len(judged["1"]) == 48


def test_a_local_judge_is_no_measure(copied: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "mtbench", "judge", "-o", str(copied), "--judge", "mame", "-n", "2", env=JAPANESE)
    assert done.returncode == 0, done.stderr
    assert "モデルカードの点数と比べる物差しにはなりません" in done.stderr
    shown = run(tmp_path, "mtbench", "show", str(copied), env=JAPANESE)
    assert "mame（採点: mame）" in shown.stdout


def test_where_prompts_for_the_second_turn_are_missing_that_is_said(copied: Path, tmp_path: Path) -> None:
    prompts = (MINI_FOLDER / "judge_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    japanese = tmp_path / "judge_ja_prompts.jsonl"
    japanese.write_text("\n".join(prompts[:2]).replace("[[rating]]", "[[評価]]"), encoding="utf-8")
    with judge_server() as server:
        judge = ("-o", str(copied), "--judge", server.url, "--judge-prompts", str(japanese))
        done = run(tmp_path, "mtbench", "judge", *judge)
        assert "only the first is judged" in done.stderr
        assert str(MINI_FOLDER / "judge_prompts.jsonl") in done.stderr
        assert len(server.requests) == 24
        shown = run(tmp_path, "mtbench", "show", str(copied))
        assert "Here only the first turn is judged" in shown.stdout
        english = ("--multi-turn-prompts", str(MINI_FOLDER / "judge_prompts.jsonl"))
        assert run(tmp_path, "mtbench", "judge", *judge, *english).returncode == 0
        assert len(server.requests) == 48


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["answer", "-m", "mame"], 2, "needs its questions", "git clone"),
        (["answer", "-m", "mame", "--data", "."], 2, "holds no questions", "git clone"),
        (["answer", "-m", "mame", "--mini", "--preset", "x"], 2, "no preset 'x'", "--preset card"),
        (["answer", "--mini", "--choices-per-question", "0"], 2, "--choices-per-question", "5"),
        (["answer", "--again", "none.jsonl"], 2, "none.jsonl cannot be read", "Check"),
        (["judge"], 2, "judge is missing", "--judge https://"),
        (["judge", "--judge", "mame"], 2, "no answers yet", "tanuki mtbench answer"),
        (["show"], 2, "holds no judgements yet", "tanuki mtbench judge"),
        (["show", "none.jsonl"], 2, "none.jsonl cannot be read", "Check"),
        (["show", "--json", "--csv"], 2, "cannot be used together", "--json"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, arguments: list[str], code: int, message: str, hint: str
) -> None:
    done = subprocess.run(
        [*COMMAND, "mtbench", *arguments],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stderr
    error, advice = done.stderr.splitlines()[-2:]
    assert message in error
    assert hint in advice
    assert not (tmp_path / "mtbench").exists()


def start(home: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, "mtbench", *arguments], env=environment(home), stderr=subprocess.DEVNULL, cwd=ROOT
    )


def kill_twenty_times(begin: Callable[[], "subprocess.Popen[bytes]"], files: list[Path]) -> None:
    """Start again and again, and kill as soon as something more is on the disk."""

    def size() -> int:
        return sum(file.stat().st_size for file in files if file.exists())

    for _attempt in range(20):
        before = size()
        process = begin()
        while size() <= before and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    final = begin()
    assert final.wait() == 0


@pytest.mark.slow
def test_answering_killed_twenty_times_loses_and_repeats_nothing(answered: Path, tmp_path: Path) -> None:
    arguments = ("answer", "-m", "mame", "--mini", "--choices-per-question", "3", "-o", str(tmp_path / "out"))
    path = tmp_path / "out" / "model_answer" / "mame.jsonl"
    kill_twenty_times(lambda: start(tmp_path, *arguments), [path, path.with_suffix(".turns")])
    assert not path.with_suffix(".turns").exists()
    straight = records(answered / "model_answer" / "mame.jsonl")
    assert [(one["question_id"], one["choices"]) for one in records(path)] == [
        (one["question_id"], one["choices"]) for one in straight
    ]


@pytest.mark.slow
def test_judging_killed_twenty_times_loses_and_repeats_nothing(copied: Path, tmp_path: Path) -> None:
    path = copied / "model_judgment" / "gpt-4-0613_single.jsonl"
    with judge_server() as server:
        kill_twenty_times(lambda: start(tmp_path, "judge", "-o", str(copied), "--judge", server.url), [path])
    keys = [(one["question_id"], one["turn"], one["choice"]) for one in records(path)]
    assert len(keys) == len(set(keys)) == 48


def test_ctrl_c_says_130_and_the_next_run_goes_on(tmp_path: Path) -> None:
    arguments = [
        "mtbench",
        "answer",
        "-m",
        "mame",
        "--mini",
        "--choices-per-question",
        "40",
        "-o",
        f"{tmp_path}/out",
    ]
    turns = tmp_path / "out" / "model_answer" / "mame.turns"
    with Terminal(tmp_path, arguments, env=JAPANESE) as terminal:
        while not (turns.exists() and turns.stat().st_size > 0):
            terminal.pump(0.05)
        terminal.wait_for("/640")
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
    with Terminal(tmp_path, arguments) as terminal:
        terminal.wait_for("/640")
        shown = [int(done) for done in re.findall(r"(\d+)/640", terminal.text)]
        assert shown[0] > 0
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.wait_for_exit() == 130


def test_a_server_answers_and_judges_as_well(answered: Path, llama_server: str, tmp_path: Path) -> None:
    """It is sent the ids of the local engine: greedy answers are the same, but for near ties."""
    out = str(tmp_path / "out")
    done = run(tmp_path, "mtbench", "answer", "-m", llama_server, "--mini", "-o", out, "--model-id", "served")
    assert done.returncode == 0, done.stderr
    served, local = (
        {one["category"]: one["choices"][0]["turns"] for one in records(folder / "model_answer" / name)}
        for folder, name in ((tmp_path / "out", "served.jsonl"), (answered, "mame.jsonl"))
    )
    greedy = ("reasoning", "math", "coding", "extraction")
    same = [served[name][turn] == local[name][turn] for name in greedy for turn in (0, 1)]
    assert sum(same) >= 6
    judged = run(tmp_path, "mtbench", "judge", "-o", out, "--judge", llama_server, "-n", "3")
    assert judged.returncode == 0, judged.stderr
    assert "Judgements made: 3." in judged.stderr
    assert "local model" not in judged.stderr

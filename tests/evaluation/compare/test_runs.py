"""Comparisons as the program runs them: killed and gone on with, run again, shown, refused."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tanuki_cli.conversation import Conversation, Generation, Message
from tanuki_cli.history import HistoryStore
from tests.conftest import until
from tests.support.program import COMMAND, Terminal, environment, run

Compare = Callable[..., dict[str, Any]]


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    result["provenance"].pop("date")
    for model in (result["reference"], *result["candidates"]):
        for name in ("memory_bytes", "load_s", "tokens_per_s", "answer_tokens_per_s"):
            model.pop(name)
    for row in result["answers"]:
        for answer in row["answers"]:
            answer.pop("seconds")
    return result


@pytest.mark.parametrize("way", [(), ("--one-by-one",)])
def test_killed_runs_go_on(
    way: tuple[str, ...], tmp_path: Path, compare: Compare, forms: dict[str, Path]
) -> None:
    """Killed at moments drawn at random by what it has kept: the same figures as in one go."""
    arguments = ["compare", *map(str, (forms["gguf-f32"], forms["gguf-q8_0"], forms["gguf-q4_k_m"]))]
    arguments += ["--limit", "400", "--context-length", "128", "--answers", "3", "--answer-tokens", "16"]
    arguments += [*way, "--json", "-q"]
    folder = tmp_path / "cache" / "compare"

    def kept() -> int:
        return len([path for path in folder.rglob("*-*") if path.suffix in (".npz", ".json", ".dist")])

    draw = random.Random(7)
    for _kill in range(4):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        goal = kept() + draw.randint(1, 9)
        until(lambda: kept() >= goal or process.poll() is not None)  # noqa: B023  called at once
        assert process.poll() is None
        process.kill()
        process.wait()
    killed = compare(tmp_path, *arguments[1:-2])
    whole = compare(tmp_path, *arguments[1:-2])
    assert without_times(killed) == without_times(whole)


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, forms: dict[str, Path]) -> None:
    arguments = ["compare", str(forms["gguf-f32"]), str(forms["gguf-q8_0"]), "--one-by-one"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: list(tmp_path.rglob("scores-0-2.npz")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"goes on where it was" in err
    assert len(list(tmp_path.rglob("reference-0-*.dist"))) >= 3


def test_a_second_process_is_told(tmp_path: Path, forms: dict[str, Path]) -> None:
    arguments = ["compare", str(forms["gguf-f32"]), str(forms["gguf-q8_0"])]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: list(tmp_path.rglob("scores-1-0.npz")))
    os.kill(process.pid, signal.SIGSTOP)
    done = run(tmp_path, *arguments)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert done.returncode == 2
    assert "another process" in done.stderr


def test_a_result_can_be_run_again(
    home: Path, compare: Compare, forms: dict[str, Path], tmp_path: Path
) -> None:
    model = tmp_path / "own.gguf"
    shutil.copyfile(forms["gguf-q8_0"], model)
    text = tmp_path / "text.txt"
    text.write_text("たぬきは里山に住んでいます。" * 20, encoding="utf-8")
    first = compare(home, forms["gguf-f32"], model, "--text", text, "--answers", 1, "--answer-tokens", 8)
    (tmp_path / "r.json").write_text(json.dumps(first, ensure_ascii=False), encoding="utf-8")
    done = run(home, "compare", "--again", str(tmp_path / "r.json"), "--json")
    assert without_times(json.loads(done.stdout)) == without_times(first)
    shutil.copyfile(forms["gguf-q4_k_m"], model)
    text.write_text("たぬきは里山に住んでいます。" * 21, encoding="utf-8")
    done = run(home, "compare", "--again", str(tmp_path / "r.json"))
    assert "own.gguf is not the same file as then" in done.stderr
    assert "The texts are not the same as then" in done.stderr
    for broken in ("{}", "[", '{"provenance": {}}', json.dumps({**first, "candidates": 3})):
        (tmp_path / "r.json").write_text(broken, encoding="utf-8")
        done = run(home, "compare", "--again", str(tmp_path / "r.json"))
        assert done.returncode == 2, done.stderr
        assert "r.json is not a result of tanuki compare --json." in done.stderr


def test_the_history_is_scored_and_told(tmp_path: Path, forms: dict[str, Path]) -> None:
    with HistoryStore(tmp_path / "data" / "history.sqlite3") as store:
        conversation = Conversation()
        conversation.append(Message("user", "たぬきは何を食べますか?"))
        conversation.append(
            Message("assistant", "木の実や虫、ときには魚も食べます。"),
            generation=Generation(model="x", finish_reason="stop"),
        )
        store.save(conversation)
    done = run(tmp_path, "compare", "mame", str(forms["gguf-f32"]), "--history", "--json")
    assert "Your own chats are scored: 1" in done.stderr
    assert list(json.loads(done.stdout)["texts"]["places"]) == ["history", "all"]


def test_figures_for_other_programs(home: Path, forms: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "p.svg"
    arguments = ["compare", "mame", str(forms["gguf-q4_k_m"]), "--limit", "20", "--svg", str(picture)]
    done = run(home, *arguments, "--csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["category"] for row in rows] == ["code", "dialogue", "english", "prose", "all"]
    assert all(float(row["kl"]) > float(row["kl_error"]) > 0 for row in rows)
    assert [int(row["tokens"]) for row in rows] == [20, 20, 20, 20, 80]
    texts = [
        element.text or "" for element in ElementTree.parse(picture).iter() if element.tag.endswith("text")
    ]
    assert sum("q4_k_m" in text for text in texts) == 2


@pytest.mark.parametrize("columns", [120, 40])
def test_people_see_a_table_or_a_list(columns: int, home: Path, forms: dict[str, Path]) -> None:
    arguments = ["compare", "mame", str(forms["gguf-q4_k_m"]), "--limit", "20", "--answers", "2"]
    with Terminal(home, arguments, columns=columns, lines=90) as terminal:
        assert terminal.wait_for_exit() == 0
        screen = terminal.text
    assert "same top" in screen
    assert "2 answers are the same as the reference's" in " ".join(screen.split())


def test_a_server_can_only_answer(
    home: Path, compare: Compare, llama_server: str, forms: dict[str, Path]
) -> None:
    done = run(home, "compare", "mame", f"{llama_server}/v1")
    assert done.returncode == 2
    assert "no full distributions" in done.stderr
    result = compare(home, "mame", f"{llama_server}/v1", forms["gguf-f32"], "--answers", 2, "--limit", 20)
    served, local = result["candidates"]
    assert served["categories"] == {}
    assert local["categories"]["all"]["tokens"] == 80
    assert [row["differences"][0]["kind"] for row in result["answers"]] == ["same", "same"]
    result = compare(home, f"{llama_server}/v1", "mame", "--answers", 1)
    assert result["texts"]["places"] == {}
    assert result["candidates"][0]["categories"] == {}
    assert result["answers"][0]["differences"][0]["kind"] == "same"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mame"], "Two models are needed"),
        (["mame", "mame", "--limit", "0"], "limit"),
        (["mame", "mame", "--answers", "999"], "built in"),
        (["mame", "mame", "--text", "missing.txt"], "cannot be read"),
        (["mame", "mame", "--again", "missing.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(home: Path, arguments: list[str], sentence: str) -> None:
    done = run(home, "compare", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_other_tokens_cannot_be_compared(home: Path, tmp_path: Path, forms: dict[str, Path]) -> None:
    other = tmp_path / "other"
    shutil.copytree(forms["safetensors-f32"], other)
    document = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = document["model"]["vocab"]
    pieces[500][0], pieces[501][0] = pieces[501][0], pieces[500][0]
    for piece in pieces[1000:1200]:
        piece[1] -= 20
    (other / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    done = run(home, "compare", "mame", str(other))
    assert done.returncode == 6, done.stderr
    assert "different tokens" in done.stderr

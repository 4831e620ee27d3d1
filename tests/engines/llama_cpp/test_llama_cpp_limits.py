"""Too little memory: said before it is taken where that can be known, and otherwise got round."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.make_synthetic_gguf import Shape, write_hollow_model
from tests.support.program import COMMAND, ROOT, environment, run

GIANT = Shape(n_layer=500, n_ff=262_144)  # about 800 GB
LAYERS = 8
SMALL = Shape(n_layer=LAYERS, n_embd=1024, n_ff=4096, n_head=8, n_kv_head=8, n_vocab=4096, n_pieces=4000)
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak if sys.platform == "darwin" else 1024 * peak)
"""


def fewer_layers(path: Path, what: str, room: int) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.support.llama_fewer_layers", str(path), what, str(room)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(("language", "words"), [("en", "needs about"), ("ja", "のメモリが必要ですが")])
def test_a_model_larger_than_the_machine(tmp_path: Path, language: str, words: str) -> None:
    write_hollow_model(tmp_path / "giant.gguf", GIANT)
    done = run(tmp_path, "ask", "-m", str(tmp_path / "giant.gguf"), "hi", env={"TANUKI_LANG": language})
    assert (done.returncode, done.stdout) == (6, "")
    sentence, hint = done.stderr.splitlines()
    assert words in sentence
    assert "GB" in sentence
    assert "tanuki models" in hint


def test_nothing_is_loaded_before_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "giant.gguf"
    write_hollow_model(path, GIANT)
    command = [sys.executable, "-c", PEAK, *COMMAND, "ask", "-m", str(path), "hi"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000_000
    assert "needs about" in done.stderr


@pytest.mark.parametrize(
    ("kilobytes", "words", "hint"),
    [
        (5_000_000, "hollow.gguf needs about", "--context-length"),
        (3_000_000, "enough memory", "ulimit -v"),
    ],
)
def test_a_limit_of_the_shell(tmp_path: Path, kilobytes: int, words: str, hint: str) -> None:
    path = tmp_path / "hollow.gguf"
    write_hollow_model(path, Shape())
    command = shlex.join([*COMMAND, "ask", "-m", str(path), "hi"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -v {kilobytes} && exec {command}"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert words in done.stderr.splitlines()[0]
    assert hint in done.stderr.splitlines()[1]


@pytest.mark.parametrize(("what", "room"), [("weights", 32_000_000), ("context", 64_000_000)])
def test_fewer_layers_go_to_a_gpu_that_is_fuller_than_it_said(tmp_path: Path, what: str, room: int) -> None:
    path = tmp_path / "hollow.gguf"
    write_hollow_model(path, SMALL)
    result = fewer_layers(path, what, room)
    assert result.get("error") is None
    assert result["tried"] == [9, 6, 4]
    assert result["device"] == "Card (4/9)"
    assert result["notes"] == ["Only 4 of 9 layers fitted the GPU's memory; the CPU computes the others."]
    assert result["count"] == 3
    taken = result["taken"]
    assert isinstance(taken, list)
    assert max(taken) - min(taken) < 20_000_000  # what an attempt took was given back


def test_another_failure_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "hollow.gguf"
    write_hollow_model(path, SMALL)
    result = fewer_layers(path, "gone", 0)
    assert result["tried"] == [9]
    assert "cannot load" in str(result["error"])

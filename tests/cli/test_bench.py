"""``tanuki bench`` with the practice model: figures that can be true, and nothing kept."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.bench_peers import ROWS
from scripts.make_synthetic_gguf import Shape, make_tokenizer, make_vocabulary, write_model
from tanuki_cli.engines.llama_cpp.bindings import VERSION
from tanuki_cli.engines.llama_cpp.ik_package import build_version
from tanuki_cli.engines.llama_cpp.tuning import Record, Speed, Tuning, tuning_key, tuning_store
from tanuki_cli.machine.packages import IK
from tests.support.program import run


def test_figures(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "-m", "mame", "--json")
    assert done.returncode == 0, done.stderr
    speed = json.loads(done.stdout)
    assert speed["model"] == "mame"
    assert speed["engine"] == "llama.cpp"
    for key in ("load_s", "first_token_s", "prompt_tokens_per_s", "answer_tokens_per_s", "next_turn_s"):
        assert speed[key] > 0
    assert speed["repeat_tokens_per_s"] > 0
    assert speed["resume_s"] > 0
    assert speed["memory_bytes"] > 10_000_000
    # A second turn computes four tokens of about six hundred.
    assert speed["next_turn_s"] < speed["prompt_tokens"] / speed["prompt_tokens_per_s"]
    assert not list(tmp_path.rglob("history.sqlite3"))


def test_table_says_what_the_figures_mean(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "-m", "mame", env={"LANG": "ja_JP.UTF-8"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mame · llama.cpp")
    assert "トークン/秒" in done.stdout
    assert "質問やファイルを読み込む速さ" in done.stdout


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is just large enough to be worth measuring."""
    folder = tmp_path_factory.mktemp("large")
    shape = Shape(n_embd=1024, n_ff=2816, n_layer=12, n_head=8, n_kv_head=4, n_vocab=32768, n_pieces=32000)
    write_model(folder / "model.gguf", shape)
    make_tokenizer(make_vocabulary(shape.n_pieces)).save(str(folder / "tokenizer.json"))
    return folder / "model.gguf"


def test_tune_keeps_a_record_and_says_what_it_tried(tmp_path: Path, large: Path) -> None:
    options = ("--engine", "llama.cpp", "--context-length", "128")
    done = run(tmp_path, "bench", "-m", str(large), "--tune", "--json", *options, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert "one token," in done.stderr
    assert "gained over the defaults: prompt " in done.stderr
    assert len(list((tmp_path / "cache" / "tuning").glob("*.json"))) == 1


@pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")
def test_the_engine_that_was_measured_to_be_faster_is_used_and_the_reason_said(
    tmp_path: Path, large: Path
) -> None:
    tuning = Tuning(threads=1, prompt_threads=1, measured=True)
    slow = Speed(load_s=1.0, prompt_s=0.1, step_s=0.2)
    fast = Speed(load_s=20.0, prompt_s=0.05, step_s=0.1)
    store = tuning_store(tmp_path / "cache")
    for version, speed in ((VERSION, slow), (build_version(), fast)):
        record = Record(tuning=tuning, default=speed, plain=speed, divergence=1e-4)
        assert store.save(tuning_key(large, version, "f16", "0"), record)
    done = run(tmp_path, "bench", "-m", str(large), "--context-length", "128", "--json", timeout_s=240)
    assert json.loads(done.stdout)["engine"] == "ik_llama.cpp"
    assert "1.01 times as fast as llama.cpp for one question, 1.82 for a chat" in done.stderr


def test_the_peer_benchmark_runs_on_the_practice_model(tmp_path: Path) -> None:
    """Without llama.cpp's own programs, which take ten minutes to build: our half of the table."""
    command = [sys.executable, "-m", "scripts.bench_peers", "--work", str(tmp_path), "--small"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    titles = [title for title, _group, _figure in ROWS]
    rows = {cells[1].strip(): cells for line in done.stdout.splitlines() if len(cells := line.split("|")) > 2}
    assert all(float(rows[title][2]) > 0 for title in titles)
    assert "Memory bandwidth" in done.stdout
    assert list(tmp_path.iterdir()) == []

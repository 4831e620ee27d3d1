"""The folder of KV caches under real processes: several at once, one killed, a disk that takes no more."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.engines.token_model import token_ids
from tests.support.llama_models import GREEDY, load, write_tiny

STATE_BYTES = 200_000
"""About one state of the longest conversation here."""
TURNS = 12


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def start(model: Path, folder: Path, *numbers: int) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "tests.support.llama_store_user",
        str(model),
        str(folder),
        *map(str, numbers),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def turns_of(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    output, errors = process.communicate()
    assert errors == ""
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def assert_computed_right(model: Path, turns: list[dict[str, Any]]) -> None:
    """Every answer is the one of a model that never saw the folder."""
    for turn in turns:
        alone = load(model)
        assert (
            list(islice(token_ids(alone.generate(turn["prompt"], GREEDY)), len(turn["ids"]))) == turn["ids"]
        )
        alone.close()


def test_processes_that_share_the_folder(tiny: Path, tmp_path: Path) -> None:
    """They replace and evict each other's states all the time: there is room for three."""
    folder, room = tmp_path / "kv", 3 * STATE_BYTES
    processes = [start(tiny, folder, room, seed, TURNS) for seed in range(3)]
    turns = [turn for process in processes for turn in turns_of(process)]
    assert len(turns) == 3 * TURNS
    assert sum(turn["cached"] > 20 for turn in turns) > TURNS  # more than the head: it was of use
    assert_computed_right(tiny, turns)
    names = [path.name for path in folder.glob("*.*")]
    assert names
    assert all(name.endswith(".kv") for name in names)
    assert sum(path.stat().st_size for path in folder.glob("*.*")) <= room


def test_a_process_killed_at_its_work(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kv"
    for seed in range(4):
        with start(tiny, folder, 1 << 30, seed, 1000) as victim:
            assert victim.stdout is not None
            for _turn in range(1 + seed):
                victim.stdout.readline()
            victim.kill()
    turns = turns_of(start(tiny, folder, 1 << 30, 9, TURNS))
    assert turns[0]["cached"] >= 20
    assert_computed_right(tiny, turns)


def test_a_disk_that_takes_no_more(tiny: Path, tmp_path: Path) -> None:
    """The limit lets the head through, and cuts everything longer in the midst of being written."""
    folder = tmp_path / "kv"
    turns = turns_of(start(tiny, folder, 1 << 30, 5, TURNS, 60_000))
    assert_computed_right(tiny, turns)
    assert {turn["cached"] for turn in turns[1:]} == {20}
    assert [path.suffix for path in folder.glob("*.*")] == [".kv"]

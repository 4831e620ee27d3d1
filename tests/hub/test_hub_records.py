"""The records of downloads, written by a chat and by the download beside it, and damaged in every way."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.hub.files import HubFile, PinnedModel
from tanuki_cli.hub.records import Records
from tests.support.program import COMMAND, ROOT, environment

ROUNDS = 40
FILE = HubFile(repository="a/b", commit="c" * 40, path="d/e.gguf", size=1, digest="f" * 64, lfs=True)
MODEL = PinnedModel(name="hf:a/b", revision="main", files=(FILE,))

WRITER = f"""
import sys
from pathlib import Path
from tanuki_cli.hub.records import Records
from tanuki_cli.hub.files import HubFile, PinnedModel
folder, name = Path(sys.argv[1]), sys.argv[2]
records = Records(folder / "downloads.json")
file = HubFile(repository="a/b", commit="c" * 40, path="d", size=1, digest="f" * 64, lfs=True)
for number in range({ROUNDS}):
    path = folder / f"{{name}}-{{number}}"
    path.write_bytes(b"")
    records.pin(PinnedModel(name=path.name, revision="main", files=(file,)))
    records.set_verified(path, "f" * 64)
    records.set_speed(1 + number)
    if number % 2:
        records.forget(path.name)
"""


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    env = environment(tmp_path)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], env=env, cwd=ROOT)
        for name in ("chat", "download")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    records = Records(tmp_path / "downloads.json")
    names = {f"{name}-{number}" for name in ("chat", "download") for number in range(ROUNDS)}
    assert records.all_pinned().keys() == {name for name in names if int(name.split("-")[1]) % 2 == 0}
    assert all(records.is_verified(tmp_path / name, "f" * 64) for name in names)
    assert records.speed() == ROUNDS


def test_settings_changed_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"remotes.lab{number}" for number in range(6)]
    env = environment(tmp_path)
    setting = [
        subprocess.Popen([*COMMAND, "config", "set", name, f"http://{name}:1/v1"], env=env, cwd=ROOT)
        for name in names
    ]
    assert {process.wait() for process in setting} == {0}
    text = (tmp_path / "config" / "config.toml").read_text(encoding="utf-8")
    assert all(f"http://{name}:1/v1" in text for name in names)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(part=st.sampled_from(["models", "verified", "bytes_per_s", "entry", "files", "file"]), value=JSON)
def test_a_damaged_record_is_left_out_and_harms_no_other(
    part: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("records") / "downloads.json"
    records = Records(path)
    records.pin(MODEL)
    records.pin(PinnedModel(name="other", revision="main", files=(FILE,)))
    records.set_verified(path, "f" * 64)
    data = json.loads(path.read_text(encoding="utf-8"))
    place = {"entry": data["models"], "files": data["models"]["other"], "file": data["models"]["other"]}
    key = {"entry": "other", "files": "files", "file": "files"}.get(part, part)
    place.get(part, data)[key] = [value] if part == "file" else value
    path.write_text(json.dumps(data), encoding="utf-8")
    pinned, speed = records.all_pinned(), records.speed()
    assert part == "models" or pinned[MODEL.name] == MODEL
    assert speed is None or 0 < speed < 1e12
    assert not records.is_verified(path, "0" * 64)
    records.set_verified(path, "f" * 64)
    records.pin(MODEL)
    records.forget("other")
    assert records.pinned(MODEL.name) == MODEL


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../../../victim"},
        {"path": "/victim"},
        {"path": "a/./b"},
        {"repository": "../.."},
        {"commit": ".."},
        {"digest": "../victim"},
        {"size": -1},
        {"size": "1"},
        {"lfs": 1},
        {"more": 1},
    ],
)
def test_names_that_lead_out_of_the_cache_are_no_record(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "downloads.json"
    records = Records(path)
    records.pin(MODEL)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["models"][MODEL.name]["files"][0].update(change)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert records.all_pinned() == {}

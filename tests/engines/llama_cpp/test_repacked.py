"""Copies of models with rearranged weights: the same numbers, whole or not at all, found while they fit."""

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import read_gguf
from tanuki_cli.engines.llama_cpp.ik import load_ik
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.native import Context, ContextParams, Model, start
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore
from tanuki_cli.engines.llama_cpp.repacking import make_copy
from tanuki_cli.engines.llama_cpp.ties import as_array
from tanuki_cli.errors import DamagedModelError, EngineError, TanukiError
from tanuki_cli.machine.packages import IK
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, split, write_tiny
from tests.support.program import ROOT

_N_VOCAB = model_facts(read_gguf(practice_model().path)).n_vocab
pytestmark = pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(practice_model().path, tmp_path / "model.gguf"))


@pytest.fixture
def store(tmp_path: Path) -> RepackedStore:
    return RepackedStore(tmp_path / "repacked")


def make(store: RepackedStore, model: Path) -> Path:
    return make_copy(store, model, on_step=lambda done, total: None)


def found(store: RepackedStore, model: Path) -> Path | None:
    return store.find(model, load_ik().version)


def logits(path: Path, *, repack: bool) -> npt.NDArray[np.float32]:
    """After each of the prompt's ids, and after one more."""
    start(debug=False)
    params = ContextParams(
        n_ctx=256, n_batch=64, n_threads=1, n_threads_batch=1, flash_attention=False, max_outputs=len(PROMPT)
    )
    with (
        closing(Model(path, gpu_layers=0, repack=repack, build=load_ik())) as weights,
        closing(Context(weights, params)) as context,
    ):
        context.decode(PROMPT, 0, outputs=len(PROMPT))
        rows = [as_array(context.logits(index), _N_VOCAB).copy() for index in range(len(PROMPT))]
        context.decode(PROMPT[:1], len(PROMPT))
        return np.stack([*rows, as_array(context.logits(0), _N_VOCAB)])


def test_a_copy_gives_the_same_numbers_as_repacking_at_load(store: RepackedStore, model: Path) -> None:
    steps: list[tuple[int, int]] = []
    copy = make_copy(store, model, on_step=lambda *step: steps.append(step))
    assert steps == [(number, len(steps)) for number in range(1, len(steps) + 1)]
    assert found(store, model) == copy
    rearranged = logits(copy, repack=False)
    assert np.array_equal(rearranged, logits(model, repack=True))
    assert not np.array_equal(rearranged, logits(model, repack=False))  # else there was nothing to compare


def test_a_model_in_parts_gets_one_copy(store: RepackedStore, model: Path, tmp_path: Path) -> None:
    parts = split(model, tmp_path, 3)
    copy = make(store, parts[0])
    assert np.array_equal(logits(copy, repack=False), logits(model, repack=True))
    assert found(store, parts[0]) == copy
    parts[2].touch()  # another file, as far as anybody can tell
    assert found(store, parts[0]) is None


def test_a_copy_is_found_only_while_it_fits(store: RepackedStore, model: Path) -> None:
    copy = make(store, model)
    assert store.find(model, "ik 0.0.1") is None
    with copy.open("rb+") as file:
        file.truncate(copy.stat().st_size - 1)
    assert found(store, model) is None
    assert make(store, model) == copy
    assert found(store, model) == copy
    model.write_bytes(model.read_bytes())
    assert found(store, model) is None


@pytest.mark.parametrize("change", ["removed", "written anew"])
def test_what_no_model_needs_is_removed(store: RepackedStore, model: Path, change: str) -> None:
    copy = make(store, model)
    assert store.remove_stale() == 0
    size = copy.stat().st_size
    model.unlink() if change == "removed" else model.write_bytes(model.read_bytes())
    assert store.remove_stale() == size
    assert [path for path in store.folder.iterdir() if not path.name.startswith(".")] == []


def test_a_model_that_changes_while_it_is_copied_gets_no_copy(store: RepackedStore, model: Path) -> None:
    """It would be one of the old model, by the name of the new one."""
    with pytest.raises(EngineError, match="was changed while"):
        make_copy(store, model, on_step=lambda done, total: model.touch())
    assert list(store.folder.glob("[!.]*")) == []


def test_ctrl_c_leaves_nothing(store: RepackedStore, model: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_copy(store, model, on_step=interrupt)
    assert list(store.folder.glob("[!.]*")) == []


def test_what_a_killed_process_left_is_removed(store: RepackedStore, model: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore
from tanuki_cli.engines.llama_cpp.repacking import make_copy
kill = lambda done, total: done == 9 and os.kill(os.getpid(), signal.SIGKILL)
make_copy(RepackedStore(Path({str(store.folder)!r})), Path({str(model)!r}), on_step=kill)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert found(store, model) is None
    copy = make(store, model)
    assert sorted(path.suffix for path in store.folder.glob("[!.]*")) == [".gguf", ".model"]
    assert found(store, model) == copy


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_copy_that_cannot_be_written_is_an_error_and_leaves_nothing(
    store: RepackedStore, model: Path
) -> None:
    with largest_file(1 << 20), pytest.raises(EngineError, match="cannot be rearranged"):
        make(store, model)
    assert list(store.folder.glob("[!.]*")) == []
    store.folder.rmdir() if not any(store.folder.iterdir()) else shutil.rmtree(store.folder)
    store.folder.touch()  # a file in the place of the folder
    with pytest.raises(TanukiError, match="cannot be written"):
        make(store, model)


def test_a_full_disk_is_told_before(
    store: RepackedStore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(model)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=model.stat().st_size))
    with pytest.raises(EngineError, match="on the disk"):
        make(store, model)


def test_weights_that_are_not_rearranged_are_an_error(store: RepackedStore, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds no weights"):
        make(store, write_tiny(tmp_path / "f32.gguf"))
    assert list(store.folder.glob("[!.]*")) == []


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("engine", ["ik", "llama.cpp"])
def test_a_copy_is_mapped_in_place_of_its_model(store: RepackedStore, model: Path, engine: str) -> None:
    """Only by the library that it is for."""
    copy = make(store, model)
    target = LocalModel(name="tiny", format="gguf", path=model)
    settings = Settings(context_length=512, threads=1, engine=engine)
    with closing(load_llama_cpp(target, settings, debug=False, copies=store.folder)) as loaded:
        assert (str(copy) in mapped_files()) == (engine == "ik")
        assert (str(model) in mapped_files()) == (engine != "ik")
        assert len([*islice(loaded.generate(PROMPT, GREEDY), 8)]) == 8


def test_a_copy_that_cannot_be_loaded_is_not_used(store: RepackedStore, model: Path) -> None:
    copy = make(store, model)
    content = bytearray(copy.read_bytes())
    content[:4] = b"BAD!"
    copy.write_bytes(content)
    target = LocalModel(name="tiny", format="gguf", path=model)
    settings = Settings(context_length=512, threads=1, engine="ik")
    with closing(load_llama_cpp(target, settings, debug=False, copies=store.folder)) as loaded:
        assert str(model) in mapped_files()
        assert len([*islice(loaded.generate(PROMPT, GREEDY), 8)]) == 8


def test_a_damaged_model_is_refused_before(store: RepackedStore, model: Path) -> None:
    with model.open("rb+") as file:
        file.truncate(model.stat().st_size // 2)
    with pytest.raises(DamagedModelError):
        make(store, model)

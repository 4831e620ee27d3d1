"""``tanuki pull --repack`` and ``tanuki rm --repacked``: a copy for ik_llama.cpp, made, used and removed."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.machine.packages import IK
from tests.support.hub_server import Hub, running_hub
from tests.support.program import run

pytestmark = pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")
MODEL = "hf:somebody/models/tiny-q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[Hub]:
    practice = practice_model()
    assert practice.tokenizer is not None
    with running_hub() as hub:
        files = {
            "tiny-q8_0.gguf": practice.path.read_bytes(),
            "tokenizer.json": practice.tokenizer.read_bytes(),
        }
        hub.add("somebody/models", files)
        yield hub


def copies(home: Path) -> list[Path]:
    return [path for path in home.rglob("repacked/*.gguf") if path.is_file()]


def test_a_copy_comes_and_goes_with_its_model(hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.url}
    pulled = run(tmp_path, "pull", MODEL, "--repack", env=env)
    assert pulled.returncode == 0, pulled.stderr
    assert f"{MODEL} is also kept as ik_llama.cpp computes with it (6.4 MB)" in pulled.stderr
    (copy,) = copies(tmp_path)
    before = copy.stat()
    assert run(tmp_path, "pull", MODEL, "--repack", env=env).returncode == 0
    assert copy.stat().st_mtime_ns == before.st_mtime_ns
    asked = run(tmp_path, "ask", "-m", MODEL, "--engine", "ik", "あなたは誰?", env=env)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout
    removed = run(tmp_path, "rm", "--yes", MODEL, env=env)
    assert removed.returncode == 0
    assert "12.9 MB are free again" in removed.stderr
    assert copies(tmp_path) == []


def test_only_the_copy_is_removed(hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.url}
    run(tmp_path, "pull", MODEL, "--repack", env=env)
    removed = run(tmp_path, "rm", "--repacked", MODEL, env=env)
    assert removed.stderr == "The copy was removed; 6.4 MB are free again.\n"
    assert copies(tmp_path) == []
    again = run(tmp_path, "rm", "--repacked", MODEL, env=env)
    assert again.returncode == 4
    assert f"tanuki pull --repack {MODEL}" in again.stderr
    assert run(tmp_path, "ask", "-m", MODEL, "こんにちは", env=env).returncode == 0


@pytest.mark.parametrize("own", [True, False])
def test_what_needs_no_download(tmp_path: Path, own: bool) -> None:
    """A file of the user's own, and the practice model."""
    model = shutil.copy(practice_model().path, tmp_path / "own.gguf") if own else "mame"
    assert run(tmp_path, "pull", "--repack", str(model)).returncode == 0
    assert len(copies(tmp_path)) == 1
    assert run(tmp_path, "rm", "--repacked", str(model)).returncode == 0
    assert copies(tmp_path) == []


def test_what_is_no_gguf_is_told_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    refused = run(tmp_path, "pull", "--repack", "tanuki-8b:awq", env={"HF_ENDPOINT": hub.url})
    assert refused.returncode == 2
    assert "--repack is for GGUF models." in refused.stderr
    assert hub.requests == []


def test_what_does_not_go_together_is_told(tmp_path: Path) -> None:
    alone = run(tmp_path, "pull", "--repack", "--tokenizer-only", "tanuki-8b")
    assert (alone.returncode, "--repack" in alone.stderr) == (2, True)
    assert run(tmp_path, "pull", "--repack", str(tmp_path / "missing.gguf")).returncode == 4
    refused = run(tmp_path, "pull", "--repack", "--json", "tanuki-8b:q4_k_m")
    assert (refused.returncode, "--json" in refused.stderr) == (2, True)

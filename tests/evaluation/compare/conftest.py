"""The practice model in all formats, and a way to run a comparison to its end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.catalog.practice import practice_model
from tests.support.lazy import lazy_imports
from tests.support.program import run

with lazy_imports():
    import torch
    from safetensors.torch import load_file, save_file

    from scripts.engine_agreement import write_forms

Compare = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The practice model in all formats, and as float32 with every weight a little off."""
    practice = practice_model()
    assert practice.tokenizer is not None
    folder = tmp_path_factory.mktemp("forms")
    found = write_forms(folder, model=practice.path, tokenizer=practice.tokenizer)
    found["off"] = folder / "off"
    shutil.copytree(found["safetensors-f32"], found["off"])
    tensors = load_file(found["off"] / "model.safetensors")
    torch.manual_seed(0)
    off = {name: tensor * (1 + 0.02 * torch.randn_like(tensor)) for name, tensor in tensors.items()}
    save_file(off, found["off"] / "model.safetensors", metadata={"format": "pt"})
    return found


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def compare() -> Compare:
    """Runs ``tanuki compare … --json`` and gives the result; nothing but locks may be left of it."""

    def run_to_end(home: Path, *arguments: object) -> dict[str, Any]:
        done = run(home, "compare", *map(str, arguments), "--json", "-q", timeout_s=300)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert [path for path in (home / "cache" / "compare").iterdir() if path.suffix != ".lock"] == []
        return result

    return run_to_end

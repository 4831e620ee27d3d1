"""scripts/gpu_check.py on the CPU with small shapes: everything but the GPU itself."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import get_args

import pytest

from scripts import gpu_check, gpu_measure
from scripts.make_synthetic_checkpoint import Layout, write_checkpoint
from tanuki_cli.engines.checkpoint import read_checkpoint
from tanuki_cli.settings import Settings

ON_CPU = Settings(gpu_layers=0, threads=1, context_length=256)


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_measure, "PROMPTS", (20, 70))
    monkeypatch.setattr(gpu_measure, "DECODED", 8)
    monkeypatch.setattr(gpu_measure, "REPEATS", 1)


@pytest.mark.parametrize("layout", get_args(Layout))
def test_a_synthetic_checkpoint_has_the_size_of_its_format(tmp_path: Path, layout: Layout) -> None:
    shape = gpu_measure.SMALL
    write_checkpoint(tmp_path, shape, layout)
    info = read_checkpoint(tmp_path)
    linear = shape.n_layer * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    other = 2 * shape.n_vocab * shape.n_embd + (2 * shape.n_layer + 1) * shape.n_embd
    bits = 16 if info.quantization is None else info.quantization.bits
    assert info.quantization is None or layout.startswith(info.quantization.method)
    # Scales and zeros of every group of 128 take a little more than the levels themselves.
    assert info.weights.bytes == pytest.approx(linear * bits // 8 + 2 * other, rel=0.02)


def test_every_part_gives_a_row_or_a_sentence(tmp_path: Path) -> None:
    bandwidth = gpu_measure.memory_bandwidth("cpu")
    assert bandwidth > 1e8
    results = [gpu_measure.llama_speed(tmp_path, gpu_measure.SMALL, ON_CPU, device="cpu")]
    results += gpu_measure.transformers_speeds(tmp_path, gpu_measure.SMALL, ON_CPU, device="cpu")
    speeds = [result for result in results if isinstance(result, gpu_measure.Speed)]
    assert [speed.name for speed in speeds][:2] == ["llama.cpp Q4_K_M", "transformers full"]
    for speed in speeds:
        assert speed.tokens_per_s > 0
        assert len(speed.first_token_s) == 2
        assert re.fullmatch(
            r"\| [^|]+ \| [\d.]+ \| \d+% \| [\d.]+ \| [\d.]+ \| [\d.-]+ \|", speed.row(bandwidth)
        )
    assert next(result for result in results if isinstance(result, str)).startswith("transformers full: ")


def test_llama_is_found_or_asked_for(tmp_path: Path) -> None:
    environment = dict(os.environ)
    options = argparse.Namespace(device="cpu", llama_sdist=None)
    assert gpu_check.find_llama(options, tmp_path, environment) is None
    (tmp_path / "llama_cpp.py").write_text("raise ImportError\n", encoding="utf-8")
    missing = {**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert "--llama-sdist" in (gpu_check.find_llama(options, tmp_path, missing) or "")


def test_a_source_that_cannot_be_built_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "llama_uses_gpu", lambda _environment: False)
    options = argparse.Namespace(device="cuda", llama_sdist=tmp_path / "llama_cpp_python-0.tar.gz")
    with pytest.raises(SystemExit, match="could not be built"):
        gpu_check.find_llama(options, tmp_path, dict(os.environ))

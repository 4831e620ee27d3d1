"""scripts/gpu_check.py on the CPU with small shapes: everything but the GPU itself."""

import argparse
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import gpu_check
from tanuki_cli.engines.transformers.checkpoint import read_checkpoint
from tanuki_cli.settings.values import Settings
from tests.support.lazy import lazy_imports

with lazy_imports():
    from scripts import gpu_measure, make_synthetic_checkpoint

ON_CPU = Settings(gpu_layers=0, threads=1, context_length=256)


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.gpu_measure.PROMPTS", (20, 70))
    monkeypatch.setattr("scripts.gpu_measure.DECODED", 8)
    monkeypatch.setattr("scripts.gpu_measure.REPEATS", 1)


@pytest.mark.parametrize("layout", ["full", "gptq-4bit", "gptq-8bit", "awq"])
def test_a_synthetic_checkpoint_has_the_size_of_its_format(
    tmp_path: Path, layout: "make_synthetic_checkpoint.Layout"
) -> None:
    shape = gpu_measure.SMALL
    make_synthetic_checkpoint.write_checkpoint(tmp_path, shape, layout)
    info = read_checkpoint(tmp_path)
    linear = shape.n_layer * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    other = 2 * shape.n_vocab * shape.n_embd + (2 * shape.n_layer + 1) * shape.n_embd
    bits = 16 if info.quantization is None else info.quantization.bits
    assert info.quantization is None or layout.startswith(info.quantization.method)
    # Scales and zeros of every group of 128 take a little more than the levels themselves.
    assert info.weights.bytes == pytest.approx(linear * bits // 8 + 2 * other, rel=0.02)


def test_every_part_gives_a_row_or_a_sentence(tmp_path: Path) -> None:
    """All but the first: its table has tests of its own."""
    bandwidth = gpu_measure.memory_bandwidth("cpu")
    assert bandwidth > 1e8
    assert "GB/s" in gpu_measure.describe("cpu")
    for part in gpu_check.PARTS[1:]:
        result = gpu_measure.speed(part, tmp_path, gpu_measure.SMALL, ON_CPU, device="cpu")
        if part == "ratio":
            assert isinstance(result, str)
            assert re.fullmatch(r"transformers full: [\d.]+ times the tokens/s of model.generate.*", result)
            continue
        assert isinstance(result, gpu_measure.Speed), result
        assert result.tokens_per_s > 0
        assert len(result.first_token_s) == 2
        row = result.row(bandwidth)
        assert re.fullmatch(r"\| [^|]+ \| [\d.]+ \| \d+% \| [\d.]+ \| [\d.]+ \| [\d.-]+ \|", row)
        assert gpu_check.header((20, 70)).splitlines()[0].count("|") == row.count("|")
    # What was written is used again.
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    gpu_measure.speed("llama", tmp_path, gpu_measure.SMALL, ON_CPU, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_script_from_its_command_line(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    command = [sys.executable, "scripts/gpu_check.py", "--device", "cpu", "--small", "--only", "ratio"]
    done = subprocess.run(
        [*command, "--work", str(tmp_path / "work"), "--report", str(report)],
        cwd=gpu_check.REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == report.read_text(encoding="utf-8")
    first, *_rest, last = [line for line in done.stdout.splitlines() if line]
    assert first.startswith("CPU, ")
    assert last.startswith("transformers full: ")
    assert gpu_check.header() in done.stdout


def test_a_part_that_fails_takes_nothing_else_along(capsys: pytest.CaptureFixture[str]) -> None:
    report = gpu_check.Report(None)

    def part(code: str, seconds: float = 60) -> Iterator[str]:
        return gpu_check.run_part([sys.executable, "-uc", code], dict(os.environ), seconds=seconds)

    report.take("one", part("import os; print('| row |'); os.abort()"), table=True)
    report.take("two", part("import time; print('| row two |'); time.sleep(600)", 5), table=True)
    report.take("three", part("print('| row three |'); print('a sentence')"), table=True)
    report.close()
    assert report.failed
    rows, *sentences = capsys.readouterr().out.split("\n\n")
    assert rows.splitlines() == ["| row |", "| row two |", "| row three |"]
    assert [sentence.strip() for sentence in sentences] == [
        "one: FAILED: exit code -6", "two: FAILED: not done after 5 s", "a sentence"
    ]  # fmt: skip


LINGERING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("| row |", flush=True)
time.sleep(600)
"""


def test_what_a_slow_part_has_started_ends_with_it() -> None:
    """A compiler that outlives its part would hold the pipe open, and the script would wait for it."""
    command = [sys.executable, "-c", LINGERING]
    lines = list(gpu_check.run_part(command, dict(os.environ), seconds=5))
    assert lines == ["| row |\n", "FAILED: not done after 5 s\n"]


def test_without_a_gpu_nothing_else_is_tried(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/gpu_check.py", "--work", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=gpu_check.REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "torch sees no CUDA device here" in done.stderr
    assert "device: FAILED: exit code 1" in done.stdout
    assert gpu_check.header() not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_llama_is_found_or_asked_for(tmp_path: Path) -> None:
    environment = dict(os.environ)
    options = argparse.Namespace(device="cpu", llama_sdist=None)
    assert gpu_check.find_llama(options, tmp_path, environment) is None
    (tmp_path / "llama_cpp.py").write_text("raise ImportError\n", encoding="utf-8")
    missing = {**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert "--llama-sdist" in (gpu_check.find_llama(options, tmp_path, missing) or "")


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """A package that claims to be llama-cpp-python, built for a GPU, with a build that needs nothing."""
    source = tmp_path / "llama_cpp_python-0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', encoding="utf-8"
    )
    (source / "backend.py").write_text(BACKEND, encoding="utf-8")
    path = tmp_path / "llama_cpp_python-0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, source.name)
    return path


BACKEND = """
import os, zipfile
from pathlib import Path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    assert "GGML_CUDA=on" in os.environ["CMAKE_ARGS"]
    Path(config_settings["build-dir"]).mkdir(exist_ok=True)
    name, info = "llama_cpp_python-0-py3-none-any.whl", "llama_cpp_python-0.dist-info"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        wheel.writestr("llama_cpp/__init__.py", "from . import llama_cpp")
        wheel.writestr("llama_cpp/llama_cpp.py", "def llama_supports_gpu_offload(): return True")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_llama_is_built_without_a_network_and_only_once(tmp_path: Path, sdist: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options = argparse.Namespace(device="cuda", llama_sdist=sdist)
    work = tmp_path / "work"
    work.mkdir()
    assert gpu_check.find_llama(options, work, dict(environment)) is None
    assert (work / "llama-build").is_dir()
    options.llama_sdist = None
    assert gpu_check.find_llama(options, work, environment) is None
    assert environment["PYTHONPATH"].startswith(str(work / "llama-cuda"))


def test_a_source_that_cannot_be_built_is_told(tmp_path: Path, sdist: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CMAKE_ARGS": "-DGGML_VULKAN=on"}
    options = argparse.Namespace(device="cuda", llama_sdist=sdist)
    assert "could not be built" in (gpu_check.find_llama(options, tmp_path, environment) or "")
    options.llama_sdist = tmp_path / "nothing.tar.gz"
    assert "there is no" in (gpu_check.find_llama(options, tmp_path, environment) or "")

#!/usr/bin/env python3
"""Check and measure tanuki on a machine with an NVIDIA GPU; no network is needed.

    python scripts/gpu_check.py --work /large/disk          everything; 40 GB of files, about 20 minutes
    python scripts/gpu_check.py --only full --only awq      some parts, e.g. where time is short
    python scripts/gpu_check.py --llama-sdist FILE          build llama.cpp for CUDA from this source first
    python scripts/gpu_check.py --device cpu --small        the same parts on small shapes, to try the script

First this makes sure of a llama-cpp-python that can use the GPU: the installed one, or one built
from its source distribution into --work. Then every part runs in a process of its own
(scripts/gpu_measure.py), so that one that fails, hangs or runs out of memory takes nothing else
along. Rows are printed as soon as they are known, and files and builds in --work are used again: what
was cut off goes on where it ended.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("agreement", "llama", "full", "ratio", "compiled", "gptq-4bit", "gptq-8bit", "awq")
PROMPTS = (100, 1000, 3000)
PACKAGES = (
    *("torch", "transformers", "accelerate", "safetensors", "tokenizers", "numpy"),
    *("gguf", "psutil", "platformdirs", "tomlkit", "pynvml", "huggingface_hub"),
)
_ASK = "import llama_cpp; print(llama_cpp.llama_cpp.llama_supports_gpu_offload())"
_CUDA = Path("/usr/local/cuda/bin")


def header(prompts: Iterable[int] = PROMPTS) -> str:
    """The head of the table of speeds."""
    first = " | ".join(f"first token, {length} (s)" for length in prompts)
    columns = 4 + len(list(prompts))
    return f"| model | tokens/s | of the bandwidth limit | {first} | memory (GB) |\n" + "|---" * columns + "|"


def llama_uses_gpu(environment: dict[str, str]) -> bool | None:
    """Whether llama-cpp-python in ``environment`` was built for a GPU; None if there is none."""
    result = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, env=environment, check=False
    )
    if result.returncode and "No module named" not in result.stderr:
        print(result.stderr, file=sys.stderr, flush=True)  # it is there, but does not load
    return result.stdout.strip() == "True" if result.returncode == 0 else None


def build_llama(source: Path, work: Path, target: Path, environment: dict[str, str]) -> bool:
    """Build the source distribution for the CUDA device here into ``target``; whether that worked.

    Sources and build stay in ``work``: what was built by then is not built again.
    """
    print(f"Building llama.cpp for CUDA from {source} (5 to 60 minutes) ...", file=sys.stderr, flush=True)
    with tarfile.open(source) as archive:
        root = work / "llama-source" / archive.getnames()[0].partition("/")[0]
        if not root.is_dir():
            archive.extractall(root.parent, filter="data")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--upgrade", "--target", str(target)]
    flags = "-DGGML_CUDA=on -DGGML_NATIVE=on -DCMAKE_CUDA_ARCHITECTURES=native"
    build = f"build-dir={work / 'llama-build'}"
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--config-settings", build, str(root)],
        env={
            **environment,
            "PATH": os.pathsep.join([environment.get("PATH", ""), str(_CUDA)]),
            "CMAKE_ARGS": environment.get("CMAKE_ARGS", flags),
        },
        stdout=sys.stderr,
        check=False,
    )
    return result.returncode == 0


def find_llama(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> str | None:
    """Make ``environment`` find a fitting llama-cpp-python; the sentence that says why there is none."""
    wants_gpu = options.device != "cpu"
    target = work / "llama-cuda"
    if target.is_dir():
        environment["PYTHONPATH"] = os.pathsep.join([str(target), environment.get("PYTHONPATH", "")])
    usable = llama_uses_gpu(environment)
    if usable is not None and (usable or not wants_gpu):
        return None
    if options.llama_sdist is None:
        return "llama-cpp-python is missing or was built without a GPU; give --llama-sdist to build it"
    if not options.llama_sdist.is_file():
        return f"there is no {options.llama_sdist}"
    if not build_llama(options.llama_sdist, work, target, environment):
        return f"{options.llama_sdist} could not be built; it needs nvcc, CMake, Ninja and scikit-build-core"
    environment["PYTHONPATH"] = os.pathsep.join([str(target), environment.get("PYTHONPATH", "")])
    return None if llama_uses_gpu(environment) else "the llama.cpp built here cannot use the GPU"


def run_part(command: Sequence[str], environment: dict[str, str], *, seconds: float) -> Iterator[str]:
    """The lines that ``command`` prints, and at the end one that says so if it failed or was too slow."""
    # A group of its own: what a part has started, such as compilers, holds its stdout open, too.
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    late = threading.Event()

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def stop() -> None:
        late.set()
        kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        assert process.stdout is not None
        yield from process.stdout
        process.wait()
    finally:
        timer.cancel()
        kill()
        process.wait()
    if late.is_set():
        yield f"FAILED: not done after {seconds:.0f} s\n"
    elif process.returncode:
        yield f"FAILED: exit code {process.returncode}\n"


class Report:
    """What is printed, and kept in ``file`` as well: rows at once, sentences after the table."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._sentences: list[str] = []
        self.failed = False

    def write(self, text: str) -> None:
        """Print ``text`` now."""
        for stream in filter(None, (sys.stdout, self._file)):
            stream.write(text)
            stream.flush()

    def take(self, part: str, lines: Iterable[str], *, table: bool) -> None:
        """Print the rows among ``lines``; in a ``table`` nothing else may stand between them."""
        for line in lines:
            if line.startswith("FAILED"):
                self.failed = True
                line = f"{part}: {line}"
            if table and not line.startswith("|"):
                sys.stderr.write(line)
                self._sentences.append(line)
            else:
                self.write(line)

    def close(self) -> None:
        """Print what was kept back."""
        for sentence in self._sentences:
            if sentence.strip():
                self.write(f"\n{sentence}")


def measure(options: argparse.Namespace, work: Path, environment: dict[str, str], report: Report) -> None:
    """Run the parts that were chosen, one after another."""
    common = [sys.executable, "-m", "scripts.gpu_measure", "--device", options.device, "--work", str(work)]
    common += ["--small"] * options.small

    def run(part: str) -> Iterator[str]:
        return run_part([*common, part], environment, seconds=60 * options.minutes)

    report.take("device", run("device"), table=False)
    if report.failed:  # then no other part could run, nor should anybody wait for a build
        return
    problem = find_llama(options, work, environment)
    if problem:
        report.write(f"Without llama.cpp: {problem}\n")
        common += ["--without-llama"]
    chosen = [part for part in PARTS if part in (options.only or PARTS)]
    if "agreement" in chosen:
        report.take("agreement", run("agreement"), table=False)
    speeds = [part for part in chosen if part != "agreement" and not (problem and part == "llama")]
    if speeds:
        report.write(f"\n{header()}\n")
    for part in speeds:
        report.take(part, run(part), table=True)
    report.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or build llama.cpp, then measure; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="two narrow layers instead of 8B")
    parser.add_argument("--work", type=Path, help="directory for large files; kept, and used again")
    parser.add_argument("--llama-sdist", type=Path, help="llama_cpp_python-….tar.gz")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--minutes", type=float, default=15, help="longest time for one part (15)")
    parser.add_argument("--report", type=Path, help="a file that gets all results, too")
    options = parser.parse_args(arguments)
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        sys.exit(f"gpu_check: install these first, or add them to PYTHONPATH: {', '.join(missing)}")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if options.report is None:
            report = Report(None)
            measure(options, work, environment, report)
        else:
            with options.report.open("a", encoding="utf-8") as file:
                report = Report(file)
                measure(options, work, environment, report)
    return int(report.failed)


if __name__ == "__main__":
    raise SystemExit(main())

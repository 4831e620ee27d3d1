#!/usr/bin/env python3
"""Check and measure tanuki on a machine with an NVIDIA GPU; no network is needed.

    python scripts/gpu_check.py --work /large/disk          everything; 30 GB of files, about 10 minutes
    python scripts/gpu_check.py --llama-sdist FILE          build llama.cpp for CUDA from this source first
    python scripts/gpu_check.py --device cpu --small        the same parts on small shapes, to try the script

First this makes sure of a llama-cpp-python that can use the GPU: the installed one, or one built
from its source distribution into --work. Then scripts/gpu_measure.py does the rest with it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_ASK = "import llama_cpp; print(llama_cpp.llama_cpp.llama_supports_gpu_offload())"


def llama_uses_gpu(environment: dict[str, str]) -> bool | None:
    """Whether llama-cpp-python in ``environment`` was built for a GPU; None if there is none."""
    result = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, env=environment, check=False
    )
    return result.stdout.strip() == "True" if result.returncode == 0 else None


def build_llama(source: Path, target: Path, environment: dict[str, str]) -> None:
    """Build the source distribution for CUDA into ``target``. Exits with pip's own words if it fails."""
    print(f"Building llama.cpp for CUDA from {source} (15 to 60 minutes) ...", file=sys.stderr)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--upgrade", "--target", str(target)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)],
        env={**environment, "CMAKE_ARGS": "-DGGML_CUDA=on -DGGML_NATIVE=on"},
        check=False,
    )
    if result.returncode:
        sys.exit(f"gpu_check: {source} could not be built; it needs nvcc, CMake and scikit-build-core.")


def find_llama(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> str | None:
    """Make ``environment`` find a fitting llama-cpp-python; the sentence that says why there is none."""
    wants_gpu = options.device != "cpu"
    usable = llama_uses_gpu(environment)
    if usable is not None and (usable or not wants_gpu):
        return None
    if options.llama_sdist is None:
        return "llama-cpp-python is missing or was built without a GPU; give --llama-sdist to build it"
    target = work / "llama-cuda"
    build_llama(options.llama_sdist, target, environment)
    environment["PYTHONPATH"] = os.pathsep.join([str(target), environment["PYTHONPATH"]])
    return None if llama_uses_gpu(environment) else "the llama.cpp built here cannot use the GPU"


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or build llama.cpp, then measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="two narrow layers instead of 8B")
    parser.add_argument("--work", type=Path, help="directory for large files; kept, and used again")
    parser.add_argument("--llama-sdist", type=Path, help="llama_cpp_python-….tar.gz")
    options = parser.parse_args(arguments)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        problem = find_llama(options, work, environment)
        if problem:
            print(f"gpu_check: without llama.cpp: {problem}", file=sys.stderr)
        command = [
            sys.executable,
            "-m",
            "scripts.gpu_measure",
            "--device",
            options.device,
            "--work",
            str(work),
        ]
        command += ["--small"] * options.small + ["--without-llama"] * bool(problem)
        return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs mutants in child processes and says which of them did what no input may do.

A mutant is a file. A child takes paths on its stdin, one a line, tries each with the target it was
started for, and answers one line of JSON. A mutant is a finding when the child ends by a signal, when an
exception comes that is no TanukiError, when a message is empty, has no hint or is no sentence, when
something else is written to stderr, or when it takes longer than the limit.

    python -m tests.fuzz.gguf --count 3000 --seed 1 --keep /somewhere/findings
"""

import argparse
import faulthandler
import importlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tanuki_cli.errors import TanukiError

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 10.0
LONGEST_MESSAGE = 1000

Make = Callable[[random.Random, Path], str]
"""Writes one mutant to the path it is given, and says in a few words what it changed."""
Try = Callable[[Path], str]
"""Uses the file at a path as the program would; what came of it in a word. Raises TanukiError."""


@dataclass(kw_only=True)
class Result:
    """What came of one run: how many mutants ended in which way, and the findings among them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def run(target: str, make: Make, *, count: int, seed: int, suffix: str, keep: Path | None = None) -> Result:
    """Try ``count`` mutants; ``target`` names the module whose ``attempt`` (a :data:`Try`) takes them.

    The same seed gives the same mutants. Files of findings are copied to ``keep``.
    """
    result = Result()
    with tempfile.TemporaryDirectory() as folder:
        child = _Child(target)
        try:
            for number in range(count):
                path = Path(folder) / f"mutant{suffix}"
                change = make(random.Random(f"{seed}/{number}"), path)
                outcome, seconds, finding = child.attempt(path)
                result.outcomes[outcome] += 1
                result.slowest_s = max(result.slowest_s, seconds)
                if finding:
                    result.findings.append(f"{number}: {change}: {finding}")
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, keep / f"{target.rpartition('.')[2]}-{seed}-{number}{suffix}")
        finally:
            child.close()
    return result


class _Child:
    """One child process at a time, started again when it is gone."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it

    def attempt(self, path: Path) -> tuple[str, float, str]:
        """The outcome in a word, the seconds it took, and the finding, empty if there is none."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        before = self._stderr.seek(0, os.SEEK_END)
        started = time.monotonic()
        process.stdin.write(os.fsencode(path) + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], TIME_LIMIT_S)
        line = process.stdout.readline() if ready else b""
        seconds = time.monotonic() - started
        self._stderr.seek(before)
        noise = self._stderr.read().decode("utf-8", "replace").strip()
        if not line:
            kind = "signal" if ready else "hang"
            self._stop()
            return kind, seconds, f"{kind} ({process.returncode}): {noise[-600:]}"
        answer = json.loads(line)
        finding = answer["finding"] or (f"noise on stderr: {noise[:600]}" if noise else "")
        return answer["outcome"], seconds, finding

    def close(self) -> None:
        self._stop()
        self._stderr.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.harness", self._target],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # ready
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
            self._process = None


def _judge(attempt: Try, path: Path) -> dict[str, str]:
    try:
        return {"outcome": attempt(path), "finding": ""}
    except TanukiError as exc:
        text = exc.message
        if not text or not exc.hint or "\n" in text or len(text) > LONGEST_MESSAGE:
            return {"outcome": "bad message", "finding": f"no sentence with a hint: {text[:300]!r}"}
        return {"outcome": f"refused ({exc.exit_code.name})", "finding": ""}
    except BaseException as exc:  # noqa: BLE001 - what came through is the finding
        return {"outcome": "exception", "finding": f"{type(exc).__name__}: {str(exc)[:300]}"}


def _serve(target: str) -> None:
    """What the child does."""
    faulthandler.enable()
    module = importlib.import_module(target)
    attempt: Try = module.attempt
    if hasattr(module, "prepare"):  # what takes long, such as an import, is not part of an attempt
        module.prepare()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is noise
    print("ready", file=answers)
    for line in sys.stdin.buffer:
        print(json.dumps(_judge(attempt, Path(os.fsdecode(line.rstrip(b"\n"))))), file=answers)


def main(runs: Sequence[tuple[str, str, Make]], description: str) -> None:
    """The command line of a fuzzer: ``runs`` are the target module, the files' suffix and the maker."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where the files of findings go")
    arguments = parser.parse_args()
    found = False
    for target, suffix, make in runs:
        started = time.monotonic()
        result = run(
            target, make, count=arguments.count, seed=arguments.seed, suffix=suffix, keep=arguments.keep
        )
        seconds = time.monotonic() - started
        print(f"{target}: {arguments.count} mutants, seed {arguments.seed}, {seconds:.0f} s,", end=" ")
        print(f"slowest {result.slowest_s:.1f} s: {dict(result.outcomes.most_common())}")
        for finding in result.findings:
            print(f"  {finding}")
        found = found or bool(result.findings)
    raise SystemExit(int(found))


def flip_bits(random_: random.Random, data: bytes, *, below: int | None = None) -> bytes:
    """One to four bits flipped among the first ``below`` bytes."""
    changed = bytearray(data)
    for _index in range(random_.randint(1, 4)):
        changed[random_.randrange(min(below or len(data), len(data)))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def spoil_bytes(random_: random.Random, data: bytes, *, below: int | None = None) -> bytes:
    """A few bytes in a row replaced, cut out or put in, or the end cut off."""
    limit = min(below or len(data), len(data))
    at, length = random_.randrange(limit), random_.choice((1, 2, 4, 8, 64))
    piece = random_.choice((bytes(length), b"\xff" * length, random_.randbytes(length)))
    return random_.choice(
        (
            data[:at] + piece + data[at + length :],
            data[:at] + data[at + length :],
            data[:at] + piece + data[at:],
            data[:at],
            data[:at] + data[random_.randrange(limit) :],
        )
    )


def numbers() -> Iterator[int]:
    """Whole numbers that break things."""
    for bits in (0, 1, 7, 8, 15, 16, 31, 32, 47, 62, 63):
        yield from ((1 << bits) - 1, 1 << bits, (1 << bits) + 1)
    yield from (3, 5, 6, 10, 99, 600, 100_000)


if __name__ == "__main__":
    _serve(sys.argv[1])

"""Ctrl-C at any moment of a command: 130 and no word, from our first line to the last of Python."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tanuki_cli.interrupts import hold_interrupts, interruptible, on_interrupt
from tests.support.program import environment

RUNS: Final = 120
SEED: Final = 20_240_827
BEGUN: Final = b"begun\n"
# As the console script does it, and with a mark: before it, it is Python that begins, as it likes.
SCRIPT: Final = f"import os\nfrom tanuki_cli.__main__ import main\nos.write(2, {BEGUN!r})\nmain()"
ASK: Final = ("ask", "-q", "-m", "mame", "--temperature", "2", "--max-new-tokens", "20", "長い話をして")


def start(home: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *ASK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home),
    )


def life_s(home: Path) -> float:
    """How long an undisturbed command takes."""
    started = time.monotonic()
    answer, told = start(home).communicate(timeout=60)
    assert answer
    assert told == BEGUN
    return time.monotonic() - started


def test_every_moment_of_a_command_ends_quietly(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    codes: list[int] = []
    for number in range(RUNS):
        if number % 20 == 0:  # other tests begin and end beside this one
            longest = 1.2 * life_s(tmp_path)
        process = start(tmp_path)
        time.sleep(moments.uniform(0, longest))  # the moment is what this is about
        os.kill(process.pid, signal.SIGINT)
        _answer, told = process.communicate(timeout=60)
        if told.startswith(BEGUN):
            assert told == BEGUN, told.decode()
            codes.append(process.returncode)
    assert set(codes) == {0, 130}
    assert codes.count(130) >= RUNS // 2


def test_an_interrupt_in_a_callback_of_an_import_is_not_lost(tmp_path: Path) -> None:
    """Nothing can be raised where Python calls back to free a lock of an import."""
    script = """
import sys, tanuki_cli.__main__ as begin
class Interrupted:
    def __del__(self):
        raise KeyboardInterrupt
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tanuki_cli.interrupts":
            Interrupted()
sys.meta_path.insert(0, Finder())
begin.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def fail_when_interrupted() -> None:
    with hold_interrupts():
        signal.raise_signal(signal.SIGINT)
        raise OSError("the terminal went away")


def test_a_held_interrupt_comes_also_when_the_block_fails() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interruptible():
        fail_when_interrupted()
    assert isinstance(caught.value.__context__, OSError)


def test_the_error_of_a_block_goes_on_where_a_held_interrupt_raises_nothing() -> None:
    came: list[bool] = []
    with pytest.raises(OSError, match="went away"), on_interrupt(lambda: came.append(True)):
        fail_when_interrupted()
    assert came == [True]

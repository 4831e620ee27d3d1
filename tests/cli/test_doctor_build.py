"""``tanuki doctor --build`` in an environment of its own, with a build that takes no compiler."""

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import until
from tests.support.checkout import ROOT, write_llama_cpp
from tests.support.program import environment

pytestmark = pytest.mark.slow

TIMEOUT_S = 100


class Installation:
    """A Python with a llama.cpp of its own, everything else from the one that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        write_llama_cpp(self.wheels)
        self.home = folder / "home"
        venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        [site] = venv.glob("lib/python*/site-packages")
        (site / "tests.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        self.python = venv / "bin" / "python"
        self.package = site / "llama_cpp"

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "tanuki_cli", *arguments]

    @property
    def environ(self) -> dict[str, str]:
        more = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return {**environment(self.home), **more}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_what_was_built_is_used_after_it_has_answered(installation: Installation) -> None:
    done = installation.run("doctor", "--build", "--offline")
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stderr.splitlines() if line.endswith("…")]
    assert steps == [
        "Making a Python environment…",
        "Building llama.cpp…",
        "Testing llama.cpp…",
        "Installing llama.cpp…",
    ]
    assert "✓ llama.cpp" in done.stdout
    assert (installation.package / "lib").is_dir()
    assert list(installation.home.glob("cache/llama.cpp/*/*.whl"))  # for the next environment
    assert "豆だぬき" in installation.run("ask", "-m", "mame", "-q", "あなたは誰?").stdout


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("broken", "llama.cpp could not be built."),
        ("crashes", "What was built gives wrong answers, so the llama.cpp from before stays."),
    ],
)
def test_what_does_not_work_leaves_the_old_one(installation: Installation, file: str, sentence: str) -> None:
    assert installation.run("doctor", "--build", "--offline").returncode == 0
    before = {path: path.stat().st_ino for path in installation.package.rglob("*")}
    (installation.wheels / file).touch()
    done = installation.run("doctor", "--build", "--offline")
    log = installation.home / "cache" / "llama.cpp.log"
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (
        6,
        [f"Error: {sentence}", f"  Hint: The whole output is in {log}"],
    )
    assert {path: path.stat().st_ino for path in installation.package.rglob("*")} == before


def test_where_nothing_can_be_written_that_is_said(installation: Installation) -> None:
    installation.home.mkdir()
    (installation.home / "cache").touch()  # a file in the place of the folder
    done = installation.run("doctor", "--build", "--offline")
    assert (done.returncode, done.stderr.splitlines()) == (
        6,
        [
            f"Error: {installation.home / 'cache'} cannot be used: it is there already",
            "  Hint: export TANUKI_HOME=/path/to/tanuki",
        ],
    )


def test_ctrl_c_ends_the_compiler_and_leaves_the_old_one(installation: Installation) -> None:
    (installation.wheels / "wait").touch()
    started = subprocess.Popen(
        installation.command("doctor", "--build", "--offline"),
        env=installation.environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    until(lambda: (installation.wheels / "built").exists(), timeout_s=TIMEOUT_S)
    started.send_signal(signal.SIGINT)
    _out, errors = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 130
    assert errors.splitlines()[-1] == "Interrupted; the llama.cpp from before stays."
    assert not installation.package.exists()

"""Odd surroundings: readers that go away, endless input, homes that are none, pipes where files should be."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tanuki_cli.errors import ExitCode
from tests.support.program import COMMAND, environment, run

COMMANDS = (
    ["--help"],
    ["--version"],
    ["models"],
    ["models", "--json"],
    ["doctor", "--offline"],
    ["doctor", "--offline", "--json"],
    ["history", "list"],
    ["history", "show"],
    ["history", "search", "豆"],
    ["history", "export", "--all"],
    ["config", "list"],
    ["help", "changes"],
    ["ask", "--help"],
    ["ask", "-q", "-m", "mame", "あなたは誰?"],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one conversation."""
    home = tmp_path_factory.mktemp("home")
    assert run(home, "ask", "-q", "-m", "mame", "あなたは誰?").returncode == 0
    return home


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(home: Path, arguments: list[str]) -> None:
    """The pipe's other end is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(home),
        check=False,
        timeout=120,
    )
    os.close(writer)
    assert done.returncode == ExitCode.CLOSED_PIPE, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Error" not in done.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_output_that_was_closed_from_the_start_is_no_error(home: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(home),
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["history", "list"], ["config", "list"], ["ask", "x"], ["doctor"]])
def test_a_home_that_nobody_knows(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments, env={"TANUKI_HOME": "~no-such-user-here/x"})
    assert done.returncode == ExitCode.SETTINGS
    assert "~no-such-user-here/x" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["ask", "-m", "mame", "-f", "/dev/zero", "x"], ["history", "import", "/dev/zero"]]
)
def test_endless_files_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == ExitCode.USAGE
    assert "too" in done.stderr


def _within_three_gigabytes() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


@pytest.mark.parametrize("text", [b"a", "あ".encode(), b"\na", "か\u3099".encode()])
def test_a_huge_text_is_too_long_without_being_tokenised(tmp_path: Path, text: bytes) -> None:
    """In three gigabytes of memory, which tokenising it would not do with."""
    done = subprocess.run(
        [*COMMAND, "ask", "-m", "mame", "x"],
        input=text * ((7 << 20) // len(text)),
        capture_output=True,
        env=environment(tmp_path),
        preexec_fn=_within_three_gigabytes,
        check=False,
        timeout=120,
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert b"too long by about" in done.stderr


@pytest.mark.parametrize("name", ["config/config.toml", "state/downloads.json", "config/keys.toml"])
def test_a_pipe_in_place_of_a_file_of_ours_holds_nobody_up(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    done = run(tmp_path, "models", timeout_s=60)
    assert "Traceback" not in done.stderr
    assert "Unexpected" not in done.stderr
    assert done.returncode == (ExitCode.SETTINGS if name == "config/config.toml" else 0)


def test_a_huge_config_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text("# " + "x" * (10 << 20), encoding="utf-8")
    done = run(tmp_path, "config", "list")
    assert done.returncode == ExitCode.SETTINGS
    assert "too large" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["ask", "-m", "mame", "\udcff"], ["ask", "-m", "\udcff", "x"], ["ask", "-f", "/\udcff", "x"], ["\udcff"],
     ["history", "show", "\udcff"], ["history", "search", "\udcff"], ["config", "get", "\udcff"],
     ["config", "set", "system", "\udcff"], ["config", "set", "stop", "\udcff"],
     ["config", "set", "remotes.lab", "http://\udcff/v1"], ["persona", "save", "先生", "\udcff"],
     ["ask", "--encoding", "\udcff", "x"], ["serve", "--host", "\udcff"],
     ["rm", "\udcff"], ["pull", "\udcff"], ["help", "\udcff"]],
    ids=ascii,
)  # fmt: skip
def test_arguments_that_are_no_utf8(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode in {0, 2, 3, 4, 8}, done.stderr
    assert "Traceback" not in done.stderr
    assert "Unexpected" not in done.stderr
    assert "--encoding cp932" not in done.stderr  # which is about files


@pytest.mark.parametrize("columns", ["0", "00", "-5", "x", "²"])
def test_a_width_that_is_none_is_as_if_not_given(home: Path, columns: str) -> None:
    done = run(home, "models", env={"COLUMNS": columns, "LINES": columns})
    assert done.returncode == 0, done.stderr
    assert "mame" in done.stdout

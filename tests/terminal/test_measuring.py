"""Asking a terminal how wide it draws ambiguous characters, with keys typed meanwhile."""

import os
import pty
import re
import threading
from collections.abc import Iterator

import pytest

from tanuki_cli.terminal.measuring import Measurement, measure_terminal
from tanuki_cli.terminal.typing_ahead import hold_typing


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the side of the terminal, the side of the program."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


class _Stream:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def answer(ours: int, reply: bytes, seen: list[bytes]) -> None:
    """Play a terminal that answers the position request with ``reply``."""
    data = b""
    while b"\x1b[6n" not in data:
        data += os.read(ours, 100)
    seen.append(data)
    os.write(ours, reply)


@pytest.mark.parametrize(("reply", "width"), [(b"\x1b[5;2R", 1), (b"\x1b[24;3R", 2), (b"\x1b[1;9R", None)])
def test_the_terminal_is_asked_for_its_ambiguous_width(
    terminal: tuple[int, int], reply: bytes, width: int | None
) -> None:
    ours, theirs = terminal
    seen: list[bytes] = []
    player = threading.Thread(target=answer, args=(ours, reply, seen))
    player.start()
    measured = measure_terminal(_Stream(theirs), _Stream(theirs), {}, timeout=30)
    player.join()
    assert measured == Measurement(ambiguous_width=width)
    assert "※".encode() in seen[0]
    assert re.search(rb"\r\x1b\[K$", os.read(ours, 100)), "the sample is wiped again"


@pytest.mark.parametrize(
    ("reply", "background"),
    [
        (b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\", "light"),
        (b"\x1b]11;rgb:00/2b/36\x07", "dark"),
        (b"\x1b]11;rgba:f/f/e/f\x1b\\", "light"),
        (b"", None),
    ],
)
def test_the_terminal_is_asked_for_its_background(
    terminal: tuple[int, int], reply: bytes, background: str | None
) -> None:
    ours, theirs = terminal
    seen: list[bytes] = []
    player = threading.Thread(target=answer, args=(ours, b"a" + reply + b"b\x1b[5;2R", seen))
    player.start()
    stream = _Stream(theirs)
    measured = measure_terminal(stream, stream, {"TERM": "xterm-256color"}, timeout=30, among_keys=True)
    player.join()
    assert (measured.ambiguous_width, measured.background, measured.typed) == (1, background, b"ab")
    assert seen[0].startswith(b"\x1b]11;?\x1b\\")


@pytest.mark.parametrize("name", ["linux", "vt100", "eterm-color", ""])
def test_a_terminal_that_might_print_the_question_is_not_asked(terminal: tuple[int, int], name: str) -> None:
    ours, theirs = terminal
    seen: list[bytes] = []
    player = threading.Thread(target=answer, args=(ours, b"\x1b[5;2R", seen))
    player.start()
    measure_terminal(_Stream(theirs), _Stream(theirs), {"TERM": name}, timeout=30)
    player.join()
    assert b"]11" not in seen[0]


def test_a_silent_terminal_is_not_waited_for(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    assert measure_terminal(_Stream(theirs), _Stream(theirs), {}, timeout=0.01) == Measurement()


def test_keys_already_typed_are_not_eaten(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    os.write(ours, b"typed\n")
    assert measure_terminal(_Stream(theirs), _Stream(theirs), {}, timeout=30) == Measurement()
    assert os.read(theirs, 100) == b"typed\n"


@pytest.mark.parametrize("before", ["", "先に"])
def test_keys_typed_around_the_report_are_kept(terminal: tuple[int, int], before: str) -> None:
    ours, theirs = terminal
    os.write(ours, before.encode())
    reply = "打つ\x1b[A\x1b[5;3R後".encode()
    player = threading.Thread(target=answer, args=(ours, reply, []))
    player.start()
    with hold_typing(_Stream(theirs)):
        measured = measure_terminal(_Stream(theirs), _Stream(theirs), {}, timeout=30, among_keys=True)
        player.join()
        assert measured == Measurement(ambiguous_width=2, typed=f"{before}打つ\x1b[A".encode())
        assert os.read(theirs, 100).decode() == "後"


def test_keys_are_kept_where_the_terminal_is_silent(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    os.write(ours, "先に打つ".encode())
    measured = measure_terminal(_Stream(theirs), _Stream(theirs), {}, timeout=0.1, among_keys=True)
    assert measured == Measurement(typed="先に打つ".encode())


def test_a_terminal_that_goes_away_raises_nothing_of_its_own() -> None:
    ours, theirs = pty.openpty()
    with hold_typing(_Stream(theirs)):
        os.close(ours)
    os.close(theirs)


def test_nothing_is_asked_off_a_terminal() -> None:
    source, target = os.pipe()
    assert measure_terminal(_Stream(source), _Stream(target), {}) == Measurement()
    os.close(target)
    assert os.read(source, 10) == b""
    os.close(source)

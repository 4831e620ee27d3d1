"""Answers that were typed before their question, while typing was held key for key."""

import os
import pty
import select
import signal
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tanuki_cli.interrupts import interruptible
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams
from tanuki_cli.terminal.typing_ahead import hold_typing, without_sequences
from tests.support.keyboard import Keyboard, open_keyboard


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    with open_keyboard() as keyboard:
        yield keyboard


TYPED = "4\rあい\r\x04xy\rz\r".encode()
ANSWERS = ["4\n", "あい\n", "", "xy\n", "z\n"]


MOMENTS = ("before restoring", "after restoring", "before asking", "when asking")


def change_at(cut: int, moment: str) -> int:
    """The number of the change of the terminal at ``moment``, after the last answer before ``cut``.

    First typing begins to be held; every question is one change to the usual and one back.
    """
    answered = sum(TYPED[:cut].count(end) for end in (b"\r", b"\x04"))
    return 1 + 2 * answered + ("asking" in moment)


@pytest.mark.parametrize(
    ("cut", "begun_at", "moment"),
    [
        (cut, begun_at, moment)
        for cut in range(len(TYPED))
        for begun_at in (1, 2)  # held, and at a question
        for moment in MOMENTS
        if change_at(cut, moment) > begun_at or (cut == 0 and moment == "when asking")
    ],
)
def test_nothing_is_lost_or_left_waiting_where_the_terminal_changes(
    keyboard: Keyboard, monkeypatch: pytest.MonkeyPatch, cut: int, begun_at: int, moment: str
) -> None:
    changes = 0
    set_attributes = termios.tcsetattr

    def change_and_type(descriptor: int, when: int, attributes: list[Any]) -> None:
        nonlocal changes
        changes += 1
        if changes == change_at(cut, moment) and "before" in moment:
            keyboard.type(TYPED[cut:])
        set_attributes(descriptor, when, attributes)
        if changes == begun_at:
            keyboard.type(TYPED[:cut])
        if changes == change_at(cut, moment) and "before" not in moment:
            keyboard.type(TYPED[cut:])

    monkeypatch.setattr(termios, "tcsetattr", change_and_type)
    answers: list[str] = []

    def ask() -> None:
        with hold_typing(keyboard.stdin):
            answers.extend(keyboard.console.read_answer("? ") for _answer in ANSWERS)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(60)
    assert answers == ANSWERS


def test_a_held_answer_is_edited_as_the_terminal_would(keyboard: Keyboard) -> None:
    with hold_typing(keyboard.stdin):
        keyboard.type("いいえ\x7f\x7f\x7f\x7fn\r9\x154\rab 狸 \x17c\x1b[Dd\bｅ\r".encode())
        answers = [keyboard.console.read_answer("? ") for _answer in range(3)]
    assert answers == ["n\n", "4\n", "ab cｅ\n"]
    assert "? n\r\n? 4\r\n? ab cｅ\r\n" in keyboard.shown()


def test_a_begun_answer_is_gone_at_ctrl_c(keyboard: Keyboard) -> None:
    def press(_begun: str) -> None:
        signal.raise_signal(signal.SIGINT)

    with hold_typing(keyboard.stdin):
        keyboard.type(b"5")
        with pytest.raises(KeyboardInterrupt), interruptible():
            keyboard.console.typed.read(ask=lambda: None, show=press)
        assert keyboard.console.typed.take() == ""


def test_a_question_is_folded_between_words() -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    os.write(ours, b"n\n")
    try:
        console = Console(
            Streams(stdin=stdin, stdout=stderr, stderr=stderr), {"COLUMNS": "40", "TERM": "xterm"}
        )
        question = "tanuki-8b:q4_k_m is still being downloaded (34 %). Stop that and leave?"
        assert not console.confirm(question, default=True)
        shown = ""
        while "[Y/n] " not in shown:  # the terminal gives it in pieces
            shown += os.read(ours, 1000).decode()
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)
    assert "tanuki-8b:q4_k_m is still being\r\ndownloaded (34 %). Stop that and\r\nleave? [Y/n] " in shown


def test_lines_typed_before_a_question_answer_it() -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    console = Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {})
    shown = b""

    def finish_the_third() -> None:
        nonlocal shown
        while b"third? x" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"y\r")

    try:
        with hold_typing(stdin):
            os.write(ours, b"4\r\xe3\x81\x82\rx")
            assert select.select([theirs], [], [], 30)[0]
            player = threading.Thread(target=finish_the_third)
            player.start()
            answers = [console.read_answer(f"{number}? ") for number in ("first", "second", "third")]
            player.join()
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)
    assert answers == ["4\n", "あ\n", "xy\n"]
    assert b"first? 4" in shown


def test_ctrl_d_that_was_held_ends_the_line_as_the_terminal_would() -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    console = Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {})
    try:
        with hold_typing(stdin):
            os.write(ours, b"9\r\x04ab\x04\x04")
            assert select.select([theirs], [], [], 30)[0]
            answers = [console.read_answer("? ") for _question in range(4)]
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)
    assert answers == ["9\n", "", "ab", ""]


REPLIES = (
    "\x1b[?62;4c",
    "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
    "\x1b]11;rgb:0/0/0\x07",
    "\x1bP1+r524742=38\x1b\\",
    "\x1b[12;40R",
    "\x1b[?2026;2$y",
    "\x1b_Gi=31;OK\x1b\\",
)
KEYS = (
    "\x1b[A",
    "\x1bOP",
    "\x1b[1;5D",
    "\x1b[27;5;13~",
    "\x1b[57358;65u",
    "\x1b[200~",
    "\x1bb",
    "\x1b",
    "\x1b[I",
)


@pytest.mark.parametrize("sequence", [*REPLIES, *KEYS])
def test_a_line_that_the_terminal_edited_keeps_no_sequence(sequence: str) -> None:
    assert without_sequences(f"狸{sequence}\n") == "狸\n"
    if sequence != "\x1b":
        assert without_sequences(f"{sequence}]狸P1{sequence}[\n") == "]狸P1[\n"


@pytest.mark.parametrize(
    ("typed", "yes"),
    [
        ("ｙ", True),
        ("ＹＥＳ", True),
        ("ﾊｲ", True),
        ("　はい　", True),
        ("いぇｓ", True),
        ("\x1b[?62;4cy", True),
        ("ｎ", False),
        ("Ｎｏ", False),
        ("ん", False),
        ("の", False),
        ("ｲｲｴ", False),
        ("\x1b[B", None),
        ("　", None),
    ],
)
def test_yes_and_no_as_an_input_method_types_them(typed: str, yes: bool | None) -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    console = Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {})
    try:
        os.write(ours, f"{typed}\n".encode())
        assert select.select([theirs], [], [], 30)[0]
        for default in (True, False) if yes is None else (not yes,):
            assert console.confirm("?", default=default) is (default if yes is None else yes)
            os.write(ours, b"\n")
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)


@pytest.mark.parametrize("default", [True, False])
def test_the_end_of_the_input_agrees_to_nothing(default: bool) -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    console = Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {})
    try:
        for at_end in (True, False):
            os.write(ours, b"\x04")
            assert console.confirm("?", default=default, at_end=at_end) is at_end
        os.write(ours, b"\x04")
        assert not console.confirm("?", default=default)
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)

"""Ctrl-C at random moments, many times in one chat: nothing is lost and the chat goes on."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Final

import pytest
from wcwidth import wcswidth

from tanuki_cli.conversation import Conversation
from tanuki_cli.history import HistoryStore
from tests.conftest import until
from tests.support.program import Terminal

INTERRUPTS: Final = 200
BATCH: Final = 20
LATEST_S: Final = 0.08
SEED: Final = 20_240_827


def kept(home: Path) -> Conversation:
    """The only conversation, as another process finds it on disk."""
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        (summary,) = store.list()
        return store.load(summary.id)


def check_history(home: Path, questions: list[str]) -> None:
    conversation = kept(home)
    nodes = list(conversation.nodes.values())
    assert [node.message.content for node in nodes if node.message.role == "user"] == questions
    for node in nodes:
        if node.message.role == "assistant":
            assert node.generation is not None
            assert node.generation.finish_reason is not None, f"unfinished: {node}"


def pump_for(terminal: Terminal, seconds: float) -> None:
    """Take what comes for a random time: the moment of a key press is what this is about."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        terminal.pump(left)


def wait_for_typed(terminal: Terminal, text: str) -> None:
    """Until ``text`` is before the cursor."""

    def there() -> bool:
        cursor = terminal.screen.raw.cursor
        row = terminal.screen.window[cursor.y]
        return row.startswith(f"> {text}".rstrip()) and cursor.x == 2 + wcswidth(text)

    deadline = time.monotonic() + 120
    while not there():
        assert time.monotonic() < deadline, f"{text!r} was not taken; the screen is\n{terminal.text[-800:]}"
        terminal.pump(0.02)


def test_ctrl_c_200_times_in_one_chat(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    options = ("--temperature", "2", "--max-new-tokens", "400", "--lang", "en")
    questions: list[str] = []
    with Terminal(tmp_path, ("chat", "-m", "mame", *options)) as terminal:
        terminal.wait_for_prompt(0)
        for count in range(1, INTERRUPTS + 1):
            questions.append(f"問い{count}")
            before = terminal.prompts
            terminal.type(questions[-1])
            wait_for_typed(terminal, questions[-1])
            terminal.type("\r")
            pump_for(terminal, moments.uniform(0, LATEST_S))
            terminal.interrupt()
            terminal.wait_for_prompt(before)
            if count % BATCH == 0:
                settle(terminal, before=count)
                check_history(tmp_path, questions)
        terminal.send("/title 最後まで")
        terminal.send("/params")
        terminal.wait_for("max_new_tokens")
        terminal.type("\x04")
        assert terminal.wait_for_exit() == 0
    assert "Traceback" not in terminal.text
    conversation = kept(tmp_path)
    assert conversation.title == "最後まで"
    reasons = [node.generation.finish_reason for node in conversation.nodes.values() if node.generation]
    assert reasons.count("interrupted") >= INTERRUPTS // 20, "hardly any answer was interrupted"


def settle(terminal: Terminal, *, before: int) -> None:
    """Until the chat surely waits at its prompt: a command is answered there."""
    terminal.send(f"/title {before}")


@pytest.mark.parametrize("ahead", ["", "先に打つ"])
def test_ctrl_c_typed_in_one_go_with_enter_stops_the_answer(tmp_path: Path, ahead: str) -> None:
    with Terminal(tmp_path, ("chat", "-m", "mame", "--max-new-tokens", "400", "--lang", "en")) as terminal:
        terminal.wait_for_prompt(0)
        terminal.type(f"長い話をして\r{ahead}\x03")
        terminal.wait_for("Stopped.")
        wait_for_typed(terminal, ahead)
        check_history(tmp_path, ["長い話をして"])


def test_a_signal_at_the_prompt_does_what_the_key_does(tmp_path: Path) -> None:
    with Terminal(tmp_path, ("chat", "-m", "mame", "--lang", "en")) as terminal:
        terminal.wait_for_prompt(0)
        terminal.type("書きかけ")
        wait_for_typed(terminal, "書きかけ")
        os.kill(terminal.process.pid, signal.SIGINT)
        until(lambda: terminal.pump(0.05) and terminal.screen.window[terminal.screen.raw.cursor.y] == ">")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for("Press Ctrl-C again")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.wait_for_exit() == 0


@pytest.mark.parametrize("keys", ["\x18\x05", "/edit\r"])
def test_ctrl_c_in_the_editor_is_the_editors(tmp_path: Path, keys: str) -> None:
    editor = tmp_path / "editor"
    press = "kill -INT $PPID; kill -INT $PPID; kill -INT $PPID"
    editor.write_text(f"#!/bin/sh\n{press}\nprintf 'エディターから' > \"$1\"\n{press}\n", encoding="utf-8")
    editor.chmod(0o755)
    arguments = ("chat", "-m", "mame", "--max-new-tokens", "8", "--lang", "en")
    with Terminal(tmp_path, arguments, env={"EDITOR": str(editor)}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("こんにちは")
        terminal.type(keys)
        terminal.wait_for("> エディターから")
        terminal.type("\x15\x04")
        assert terminal.wait_for_exit() == 0

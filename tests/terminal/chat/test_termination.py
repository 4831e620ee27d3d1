"""SIGTERM, as ``kill`` and a system that shuts down send it: screen, terminal and history stay whole."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tanuki_cli.history import HistoryStore
from tests.support.chat_server import ChatServer, Hang, chat
from tests.support.program import COMMAND, Terminal

ANSWER: Final = "むかし**むかし、あるところに"
SHELL: Final = ("sh", "-c", 'trap "" TERM; "$@"; echo "ended with $?"', "sh", *COMMAND)
"""What is there before and after: its next line shows where the cursor was left."""


def terminate(terminal: Terminal) -> None:
    """Send SIGTERM to the program, not to the shell."""
    parent = terminal.process.pid
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, check=True)
    (child,) = listed.stdout.split()
    os.kill(int(child), signal.SIGTERM)


def last_answer(home: Path) -> tuple[str, str | None]:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        conversation = store.latest()
        assert conversation is not None
        answer = conversation.last("assistant")
        assert answer is not None
        assert answer.generation is not None
        return answer.message.content, answer.generation.finish_reason


@pytest.mark.parametrize("command", [("chat",), ("ask", "話して"), ("ask", "--plain", "話して")])
def test_in_the_middle_of_an_answer(tmp_path: Path, command: tuple[str, ...]) -> None:
    with ChatServer([chat(ANSWER), Hang()]) as server:
        arguments = (*command[:1], "-m", server.url, *command[1:])
        with Terminal(tmp_path, arguments, command=SHELL) as terminal:
            if command == ("chat",):
                terminal.wait_for_prompt(0)
                terminal.type("話して\r")
            terminal.wait_for("あるところに")
            terminate(terminal)
            terminal.wait_for_exit()
            lines = [line for line in terminal.text.splitlines() if line]
            assert lines[-1] == f"ended with {128 + signal.SIGTERM}"
            assert any(line.endswith("あるところに") for line in lines)
            assert terminal.echoes
    assert last_answer(tmp_path) == (ANSWER, "interrupted")


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_at_the_prompt(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, ("chat", "-m", "mame"), command=SHELL, env={"TERM": term}) as terminal:
        terminal.wait_for("\n>")
        terminal.type("書きかけ")
        terminal.wait_for("書きかけ")
        terminal.settle()
        terminate(terminal)
        terminal.wait_for_exit()
        assert terminal.text.splitlines()[-1] == f"ended with {128 + signal.SIGTERM}"
        assert terminal.echoes

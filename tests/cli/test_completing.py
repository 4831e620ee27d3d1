"""What a Tab offers as values, asked as bash asks."""

import subprocess
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.history import HistoryStore
from tests.support.program import COMMAND, environment, run


def tab(home: Path, line: str) -> list[str]:
    """What is offered for the last word of ``line``."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return complete(home, {"_TANUKI_COMPLETE": "complete_bash", **words}).split()


def complete(home: Path, shell: dict[str, str]) -> str:
    """What the program answers to a shell that asks with these variables."""
    start = "import sys; sys.argv = ['tanuki']; from tanuki_cli.cli import main; main()"
    done = subprocess.run(
        [COMMAND[0], "-c", start],
        env=environment(home, **shell),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == b""
    return done.stdout.decode("utf-8")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tanuki config set te", ["temperature"]),
        ("tanuki config unset max_", ["max_new_tokens"]),
        ("tanuki ask --kv-type ", ["f16", "q8_0"]),
        ("tanuki chat --enter n", ["newline"]),
        ("tanuki ask --persona や", ["やさしい日本語"]),
        ("tanuki persona show 要", ["要約"]),
        ("tanuki ask -m mam", ["mame"]),
        ("tanuki rm ", []),
        ("tanuki history show ", []),
    ],
)
def test_values_are_offered(tmp_path: Path, line: str, offered: list[str]) -> None:
    assert tab(tmp_path, line) == offered


def test_conversations_are_offered_by_id(tmp_path: Path) -> None:
    assert run(tmp_path, "ask", "-m", "mame", "--max-new-tokens", "2", "こんにちは").returncode == 0
    (row,) = run(tmp_path, "history", "list").stdout.splitlines()
    for line in ("tanuki history show ", "tanuki chat --resume ", "tanuki history export "):
        assert tab(tmp_path, line)[:1] == [row.split()[0]]


def test_chats_are_offered_before_questions_which_say_what_they_are(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "data" / "history.sqlite3") as store:
        chat, question = Conversation(), Conversation(kind="question")
        for conversation in (chat, question):
            conversation.append(Message("user", "こんにちは"))
            store.save(conversation)
    for line in ("tanuki history show ", "tanuki chat --resume "):
        assert tab(tmp_path, line) == [chat.id[:6], question.id[:6]]
    asked = {"_TANUKI_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    shown = complete(tmp_path, {**asked, "_TYPER_COMPLETE_ARGS": "tanuki chat --resume "})
    assert shown == f"{chat.id[:6]}\tこんにちは\n{question.id[:6]}\tQuestion: こんにちは\n"

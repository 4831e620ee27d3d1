"""What a user asks to forget, or not to keep, is in no file of tanuki's: no text, no piece of it, no ids."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.engines.opening import read_tokenizer
from tanuki_cli.history import HistoryStore
from tests.support.program import Terminal, run

KEPT = 30
SECRETS = ("鸚鵡鼯鼠鬱鼈", "龘驫麤靐齉爩", "Quixotry-Zephyr-Gwynn")
QUESTION, PERSONA, TITLE = SECRETS
MODEL = practice_model()
"""Given by its path it is a model like any other, whose prompts are kept."""
CHAT = ("chat", "-m", str(MODEL.path), "--temperature", "0", "--max-new-tokens", "4")


def traces(home: Path, *secrets: str) -> dict[str, set[str]]:
    """Which files hold a piece of one of ``secrets``, as typed or as the search folds it, or its token ids.

    An index writes only what differs from the word before it: two rare characters are piece enough.
    """
    tokenizer = read_tokenizer(MODEL)
    found: dict[str, set[str]] = {}
    for path in (path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for secret in secrets:
            length = 3 if secret.isascii() else 2
            pieces = {secret[start : start + length] for start in range(len(secret) - length + 1)}
            pieces |= {piece.casefold() for piece in pieces}
            ids = tokenizer.encode_chat([Message("user", secret)])
            common = tokenizer.encode_chat([Message("user", "")])
            own = [id_ for id_ in ids if id_ not in common]
            wanted = [piece.encode() for piece in pieces] + [struct.pack(f"<{len(own)}i", *own)]
            if any(one in content for one in wanted):
                found.setdefault(path.name, set()).add(secret)
    return found


def chat(home: Path, *options: str, lines: tuple[str, ...]) -> str:
    """The screen of a chat in which ``lines`` were typed."""
    with Terminal(home, [*CHAT, *options], columns=120, env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        for line in lines:
            terminal.send(line)
        terminal.type("/exit\r")
        assert terminal.wait_for_exit() == 0
        return terminal.text


LINES = (f"/persona {PERSONA}", f"{QUESTION} は何ですか", f"/title {TITLE}")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A history with conversations that stay, held open by another process all the while."""
    store = HistoryStore(tmp_path / "data" / "history.sqlite3")
    for number in range(KEPT):
        kept = Conversation()
        kept.append(Message("user", f"残る話の{number}です。" * 50))
        store.save(kept)
    yield tmp_path
    assert len(store.list()) == len(store.search("残る話", limit=99)) == KEPT
    assert store.verify() == []
    store.close()


def test_a_removed_conversation_is_gone_from_every_file(home: Path) -> None:
    chat(home, lines=("こんにちは", *LINES))
    before = traces(home, *SECRETS)
    assert {name for name in before if name.endswith(".kv")}
    assert {"input_history"} <= before.keys()
    assert any(name.startswith("history.sqlite3") for name in before)
    (left_over,) = {path.parent for path in home.rglob("*.kv")}
    (left_over / "killed.part").write_text(QUESTION, encoding="utf-8")
    listed = run(home, "history", "list").stdout
    (id_,) = re.findall(rf"^(\w+) .*{TITLE}", listed, re.MULTILINE)
    done = run(home, "history", "rm", "--yes", id_)
    assert (done.returncode, done.stderr) == (0, f"Removed: {TITLE}\n")
    assert traces(home, *SECRETS) == {}
    assert "/title" not in (home / "state" / "input_history").read_text(encoding="utf-8")


def test_what_is_not_to_be_saved_is_written_nowhere(home: Path) -> None:
    chat(home, lines=("/help keys",))
    chat(home, "--no-save", lines=LINES)
    assert traces(home, *SECRETS) == {}
    assert run(home, "ask", "--no-save", *CHAT[1:], QUESTION).returncode == 0
    assert traces(home, *SECRETS) == {}
    with Terminal(home, [*CHAT, "--no-save"], env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.wait_for("not saved")
        terminal.type("\x1b[A")
        terminal.wait_for("> /exit")  # what was kept before can still be called up


def test_a_damaged_history_that_was_set_aside_is_named(home: Path) -> None:
    aside = home / "data" / "history.sqlite3.corrupt-20250101-000000"
    aside.write_bytes(b"damaged")
    with HistoryStore(home / "data" / "history.sqlite3") as store:
        gone = Conversation()
        gone.append(Message("user", QUESTION))
        store.save(gone)
    done = run(home, "history", "rm", "--yes", gone.id)
    assert done.returncode == 0
    assert aside.name in done.stderr
    assert aside.exists()


def test_all_conversations_and_all_past_input_go_at_once(tmp_path: Path) -> None:
    chat(tmp_path, lines=("こんにちは", *LINES, f"/search {QUESTION}"))
    assert run(tmp_path, "ask", "-m", "mame", PERSONA).returncode == 0
    assert traces(tmp_path, *SECRETS)
    refused = run(tmp_path, "history", "rm", "--all")
    assert refused.returncode == 2
    assert "tanuki history rm --all --yes" in refused.stderr
    with Terminal(tmp_path, ["history", "rm", "--all"], env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for("(2)")
        terminal.type("y\r")
        assert terminal.wait_for_exit() == 0
    assert traces(tmp_path, *SECRETS) == {}
    assert not (tmp_path / "state" / "input_history").exists()
    assert run(tmp_path, "history", "list").stdout == ""


@pytest.mark.parametrize(
    ("words", "sentence"), [((), "ID is missing."), (("--all", "3fa85f"), "cannot be used together.")]
)
def test_what_is_to_be_removed_has_to_be_said(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = run(tmp_path, "history", "rm", "--yes", *words)
    assert done.returncode == 2
    assert sentence in done.stderr

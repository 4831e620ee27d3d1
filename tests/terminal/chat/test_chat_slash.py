"""What a line that begins with a slash is: one rule, at the prompt, in a paste and in a pipe."""

from pathlib import Path

import pytest

from tanuki_cli.history import HistoryStore
from tanuki_cli.terminal.chat.commands import as_message, is_command
from tests.support.program import Terminal, run

CHAT = ("chat", "-m", "mame", "--temperature", "0", "--max-new-tokens", "4")
COMMANDS = (
    "/",
    "/help",
    "／help",
    "/ｈｅｌｐ",
    "/?",
    "/Exit",
    "/system 狸",
    "/system　狸",
    "/model\tmame",
    "/hlep",
    "/exit\n",
)
MESSAGES = (
    "/usr/bin/env とは?",
    "/etc/passwd",
    "/* 注釈 */",
    "/ 割る",
    "/3 とは",
    "/こんにちは",
    "/exit\nと書くとどうなる?",
    "/file a.txt\n/file b.txt",
    "// TODO: 直す",
    "// TODO: 直す\nreturn 1",
    "//!注釈",
    "///doc",
    "/r/japan",
    " /help",
    "https://example.com/",
)


@pytest.mark.parametrize("text", COMMANDS)
def test_a_word_of_letters_and_then_a_blank_or_the_end_is_a_command(text: str) -> None:
    assert is_command(text)
    assert not is_command(f"/{text}")
    assert as_message(f"/{text}") == text


@pytest.mark.parametrize("text", MESSAGES)
def test_everything_else_is_sent_as_it_is(text: str) -> None:
    assert not is_command(text)
    assert as_message(text) == text


def questions(home: Path) -> list[str]:
    with HistoryStore(home / "data" / "history.sqlite3") as store:
        nodes = [node for one in store.list() for node in store.load(one.id).path_nodes()]
    return [node.message.content for node in nodes if node.message.role == "user"]


def test_the_same_at_the_prompt_and_in_a_paste(tmp_path: Path) -> None:
    pasted = "// TODO: 直す\n/exit\n//exit"
    with Terminal(tmp_path, CHAT, env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.paste(pasted)
        terminal.send("")
        terminal.send("/usr/bin/env とは?")
        terminal.send("//exit")
        terminal.send("/title 全　角　の題")
        terminal.send("/system 　全　角")
        terminal.type("／exit\r")
        assert terminal.wait_for_exit() == 0
    assert questions(tmp_path) == [pasted, "/usr/bin/env とは?", "/exit"]
    with HistoryStore(tmp_path / "data" / "history.sqlite3") as store:
        conversation = store.load(store.list()[0].id)
    assert (conversation.title, conversation.system) == ("全　角　の題", "　全　角")


def test_the_same_in_a_pipe(tmp_path: Path) -> None:
    lines = ("// TODO: 直す", "//exit", "/usr/bin", "/exit", "送らない")
    done = run(tmp_path, *CHAT, stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    assert questions(tmp_path) == ["// TODO: 直す", "/exit", "/usr/bin"]


def test_a_file_with_full_width_spaces_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "全　角.txt"
    path.write_text("中身", encoding="utf-8")
    done = run(tmp_path, *CHAT, stdin=f"/file {path}\n要約して\n".encode())
    assert done.returncode == 0, done.stderr
    assert "中身" in questions(tmp_path)[0]

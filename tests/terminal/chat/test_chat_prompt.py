"""Around the prompt of ``tanuki chat``: the help, attachments, the search of past input, the status line."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tanuki_cli.history import HistoryStore
from tests.conftest import until
from tests.support.chat_server import ChatServer, Hang, chat
from tests.support.program import COMMAND, Terminal

CHAT: Final = ("chat", "-m", "mame", "--temperature", "0")
ENTER, CTRL_C, CTRL_R, CTRL_S, CTRL_U, CTRL_Z = "\r", "\x03", "\x12", "\x13", "\x15", "\x1a"
UP = "\x1b[A"


def open_chat(
    home: Path,
    *options: str,
    columns: int = 80,
    lines: int = 24,
    env: Mapping[str, str] | None = None,
) -> Terminal:
    terminal = Terminal(home, [*CHAT, *options], columns=columns, lines=lines, env=env)
    terminal.wait_for_prompt(0)
    return terminal


def saved(home: Path) -> list[list[str]]:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        return [[node.message.content for node in store.load(one.id).path_nodes()] for one in store.list()]


def test_a_long_help_is_paged_and_the_prompt_comes_back(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    less = tmp_path / "bin" / "less"
    less.parent.mkdir()
    less.write_text(
        f'#!/bin/sh\necho "LESS=$LESS" > {seen}\ntee -a {seen} | head -3\nread key < /dev/tty\n',
        encoding="utf-8",
    )
    less.chmod(0o755)
    env = {"PAGER": "", "PATH": f"{less.parent}{os.pathsep}{os.environ['PATH']}"}
    with open_chat(tmp_path, env=env) as terminal:
        prompts = terminal.prompts
        terminal.type("/help" + ENTER)
        terminal.wait_for("(space for more, q to go back)")
        terminal.settle(0.3)
        assert terminal.prompts == prompts
        terminal.interrupt()  # is the pager's
        terminal.type(ENTER)
        terminal.wait_for_prompt(prompts)
        terminal.type("あなたは誰?" + ENTER)
        # The prompt after a pager is drawn twice, so that prompts cannot be counted here.
        until(lambda: (terminal.pump(0.1), "豆だぬき" in terminal.text.rpartition("> あなたは誰?")[2])[1])
    text = seen.read_text(encoding="utf-8")
    assert text.startswith("LESS=RX\n")
    for words in ("/help [COMMAND] ", "/lang [ja|en] ", "Ctrl-X Ctrl-E", "What is a tanuki?"):
        assert text.count(words) == 1


def test_a_help_that_fits_is_not_paged(tmp_path: Path) -> None:
    with open_chat(tmp_path, lines=60, env={"PAGER": "sh -c 'echo PAGED'"}) as terminal:
        terminal.send("/help")
        assert "/lang [ja|en]" in terminal.text
        assert "PAGED" not in terminal.text


@pytest.mark.parametrize("pager", ["no-such-pager", "'", "sh -c 'echo PAGED; cat'"])
def test_help_is_whole_with_any_pager(tmp_path: Path, pager: str) -> None:
    with open_chat(tmp_path, env={"PAGER": pager}) as terminal:
        terminal.send("/help")
        assert terminal.text.count("  /help [COMMAND] ") == 1
        assert terminal.text.count("  Ctrl-X Ctrl-E ") == 1
        assert ("PAGED" in terminal.text) == ("PAGED" in pager)


def test_the_keys_are_folded_where_their_halves_fit(tmp_path: Path) -> None:
    with open_chat(tmp_path, columns=130, lines=40) as terminal:
        terminal.send("/help")
        assert re.search(r"\n  Enter +send +Ctrl-C +stop the answer;", terminal.text)
        assert re.search(r"\n  /help \[COMMAND\] +show this help\n", terminal.text)


def test_short_rows_stay_rows_in_a_narrow_window(tmp_path: Path) -> None:
    with open_chat(tmp_path, columns=40) as terminal:
        terminal.send("/params")
        assert "\n  context_length  4096\n  model           mame\n" in terminal.text


@pytest.mark.parametrize("word", ["/quit", "／ｂｙｅ", "/q"])
def test_the_words_of_other_chats_leave(tmp_path: Path, word: str) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.send("/?")
        assert "  /help [COMMAND] " in terminal.text
        terminal.type(word + ENTER)
        assert terminal.wait_for_exit() == 0


@pytest.mark.parametrize("word", ["exit", "ｑｕｉｔ", ":q", "終了 "])
def test_a_word_that_leaves_other_programs_is_asked_about_once(tmp_path: Path, word: str) -> None:
    question = "Leave the chat?"
    with Terminal(tmp_path, CHAT, env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send(f"{word}とは?")
        terminal.type(word + ENTER)
        terminal.wait_for(question)
        terminal.send("n")
        terminal.send(word)
        assert terminal.text.count(question) == 1
        terminal.type("/exit" + ENTER)
        assert terminal.wait_for_exit() == 0
    assert saved(tmp_path)[0][::2] == [f"{word}とは?", word, word]
    with Terminal(tmp_path, CHAT, env={"TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.type(word + ENTER)
        terminal.wait_for(question)
        terminal.type(ENTER)
        assert terminal.wait_for_exit() == 0
    assert len(saved(tmp_path)) == 1


def test_a_message_that_begins_with_a_slash_can_be_sent(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.send("/usr とは?")
        assert "  Hint: /help (a message that begins with / is sent with //)" in terminal.text
        terminal.send("//usr とは?")
    assert saved(tmp_path)[0][0] == "/usr とは?"


def test_full_width_commands_are_completed(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("／ｒｅｔ")
        terminal.wait_for("answer the last question again")
        terminal.type(CTRL_U + "／ｌａｎｇ　e")
        terminal.wait_for(" en\n")
        terminal.type("\t")
        terminal.wait_for("／ｌａｎｇ　en")
        terminal.type(CTRL_U + "/set　ｔｅｍｐ")
        terminal.wait_for(" temperature ")


def test_a_conversation_is_completed_by_its_title(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        for question in ("あなたは誰?", "/new", "分福茶釜ってどんな話?", "/new"):
            terminal.send(question)
        terminal.send("/resume 狐")
        assert "There is no conversation '狐' in the history.\n  Hint: /resume\n" in terminal.text
        terminal.type("/resume 茶釜")
        terminal.wait_for("  分福茶釜ってどんな話?")
        assert "  あなたは誰?" not in terminal.text
        terminal.send("\t" + ENTER)
        assert "Going on with “分福茶釜ってどんな話?”, 2 messages." in terminal.text


def test_ctrl_c_at_a_question_is_no_error(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        prompts = terminal.prompts
        terminal.type("/model tanuki-8b" + ENTER)
        terminal.wait_for("[Y/n]")
        terminal.interrupt()
        terminal.wait_for_prompt(prompts)
        assert "\nInterrupted." in terminal.text
        assert "Error" not in terminal.text


def test_a_line_that_was_cleared_comes_back_and_is_in_no_file(tmp_path: Path) -> None:
    draft = "長い下書きの一行目"
    with open_chat(tmp_path) as terminal:
        terminal.type(draft)
        terminal.wait_for(f"> {draft}")
        terminal.type(CTRL_C)
        until(lambda: (terminal.pump(0.1), draft not in terminal.text)[1])
        terminal.type(UP)
        terminal.wait_for(f"> {draft}")
        terminal.type(CTRL_C + "/exit" + ENTER)
        assert terminal.wait_for_exit() == 0
    assert draft not in (tmp_path / "state" / "input_history").read_text(encoding="utf-8")


def test_attachments_are_listed_and_dropped(tmp_path: Path) -> None:
    for name in ("いち.txt", "に two.txt", "さん.txt"):
        (tmp_path / name).write_text(f"中身は{name}", encoding="utf-8")
    with open_chat(tmp_path, columns=100) as terminal:
        terminal.send("/file")
        assert "Nothing is attached. To add a file: /file README.md" in terminal.text
        terminal.send("/file -")
        assert "Nothing is attached.\n" in terminal.text
        terminal.send(f"/file {tmp_path}/いち.txt")
        assert "\nいち.txt (25 characters) goes with the next message; /file - drops it." in terminal.text
        terminal.send(f"／file　'{tmp_path}/に two.txt'")  # quoted, as when it is dropped onto the terminal
        terminal.send(f"/file {tmp_path}/さん.txt")
        terminal.wait_for("3 attached")
        terminal.send("/file - し.txt")
        assert "し.txt is not attached." in terminal.text
        terminal.send("/file - に two.txt")
        terminal.wait_for("2 attached")
        terminal.send("/file")
        listed = terminal.text.rpartition("> /file\n")[2]
        assert "いち.txt (" in listed
        assert "に two.txt (" not in listed
        terminal.type("/file -")
        terminal.wait_for("drop everything attached")
        terminal.type(CTRL_U)
        terminal.send("どう?")
        terminal.send(f"/file {tmp_path}/いち.txt")
        terminal.send("／file　ー")  # what an input method makes of the key
        terminal.send("ありがとう")
    (conversation,) = saved(tmp_path)
    assert "中身はいち.txt" in conversation[0]
    assert "中身はさん.txt" in conversation[0]
    assert "two.txt" not in conversation[0]
    assert conversation[2] == "ありがとう"


@pytest.mark.parametrize(
    ("lang", "backward", "forward"),
    [
        ("ja", "入力履歴を検索: ", "入力履歴を検索（新しいほうへ）: "),
        ("en", "Search past input: ", "Search past input, towards the newest: "),
    ],
)
def test_the_search_of_past_input_speaks_the_users_language(
    tmp_path: Path, lang: str, backward: str, forward: str
) -> None:
    with open_chat(tmp_path, "--lang", lang) as terminal:
        terminal.send("こんにちは")
        terminal.type(CTRL_R)
        terminal.wait_for(f"\n{backward}".rstrip())
        terminal.type("んに")
        terminal.wait_for(f"\n{backward}んに")
        terminal.type(CTRL_S)
        terminal.wait_for(f"\n{forward}んに")
        assert "I-search" not in terminal.text


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (90, r"mame \(practice\) · \d+/3072 · [\d.]+ tokens/s · 分福茶釜ってどんな話\?"),
        (60, r"mame \(practice\) · \d+/3072 · [\d.]+ tokens/s( · 分福茶.*…)?"),
        (40, r"mame \(practice\) · \d+/3072 · [\d.]+ tok/s"),
        (24, r"\d+/3072 · [\d.]+ tok/s"),
        (15, r"\d+/3072"),
    ],
)
def test_a_narrow_status_line_keeps_what_matters_most(tmp_path: Path, columns: int, line: str) -> None:
    with open_chat(tmp_path, columns=columns) as terminal:
        terminal.send("分福茶釜ってどんな話?")
        until(lambda: not terminal.pump(0.2) and re.fullmatch(line, terminal.screen.window[-1]))


SHELL: Final = ("bash", "-mc", '"$@"; stty sane; echo SUSPENDED; fg', "bash", *COMMAND)


def test_ctrl_z_suspends_and_what_was_typed_is_there_again(tmp_path: Path) -> None:
    with Terminal(tmp_path, CHAT, command=SHELL) as terminal:
        terminal.wait_for_prompt(0)
        terminal.type("書きかけ")
        terminal.wait_for("> 書きかけ")
        terminal.type(CTRL_Z)
        terminal.wait_for("\nSUSPENDED")
        until(lambda: not terminal.pump(0.1) and _row_of_the_cursor(terminal) == "> 書きかけ")
        terminal.send("の続き")
    assert saved(tmp_path)[0][0] == "書きかけの続き"


def test_typing_is_held_again_after_ctrl_z_in_an_answer(tmp_path: Path) -> None:
    with (
        ChatServer([chat("むかしむかし、"), Hang()], [chat("あるところに、"), Hang()]) as server,
        Terminal(tmp_path, ["chat", "-m", server.url], command=SHELL) as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一つ目" + ENTER)
        terminal.wait_for("むかしむかし、")
        terminal.type(CTRL_Z)
        terminal.wait_for("SUSPENDED")
        until(lambda: not terminal.pump(0.01) and terminal.foreground != terminal.process.pid)
        prompts = terminal.prompts
        terminal.interrupt()
        terminal.wait_for_prompt(prompts)
        terminal.type("二つ目" + ENTER)
        terminal.wait_for("あるところに、")
        terminal.type("先に打つ")
        terminal.interrupt()
        terminal.wait_for("> 先に打つ")
        assert terminal.text.count("先に打つ") == 1


def test_typing_is_held_again_in_the_same_answer_after_ctrl_z(tmp_path: Path) -> None:
    with (
        ChatServer([chat("むかしむかし、"), Hang()]) as server,
        Terminal(tmp_path, ["chat", "-m", server.url], command=SHELL) as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一つ目" + ENTER)
        terminal.wait_for("むかしむかし、")
        terminal.type(CTRL_Z)
        terminal.wait_for("SUSPENDED")
        until(lambda: not terminal.pump(0.01) and terminal.foreground != terminal.process.pid)
        until(lambda: not terminal.pump(0.01) and not terminal.echoes)
        terminal.type("/title 先に" + ENTER + "書きかけ")
        terminal.interrupt()
        terminal.wait_for("> 書きかけ")
        assert terminal.text.count("書きかけ") == 1
        terminal.wait_for(" · 先に")


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
@pytest.mark.parametrize("early", [True, False])
def test_lines_typed_in_one_go_are_taken_in_their_order(tmp_path: Path, term: str, early: bool) -> None:
    """By the prompt, by the question that follows, by the prompt again; and Ctrl-D leaves."""
    with Terminal(tmp_path, CHAT, env={"TERM": term}) as terminal:
        if not early:
            terminal.wait_for("\n>")
        terminal.type(f"exit{ENTER}n{ENTER}あなたは誰?{ENTER}\x04")
        assert terminal.wait_for_exit() == 0
    assert saved(tmp_path)[0][::2] == ["exit", "あなたは誰?"]


@pytest.mark.parametrize(("variable", "command"), [("EDITOR", "/edit"), ("PAGER", "/help")])
def test_a_line_typed_while_another_program_runs_is_sent_afterwards(
    tmp_path: Path, variable: str, command: str
) -> None:
    """An editor with a window of its own reads nothing from the terminal."""
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\ntouch '{program}.runs'\nuntil [ -e '{program}.end' ]; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    with Terminal(tmp_path, CHAT, env={variable: str(program)}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("あなたは誰?")
        terminal.type(command + ENTER)
        until(lambda: (terminal.pump(0.05), Path(f"{program}.runs").exists())[1])
        terminal.type(f"何ができますか?{ENTER}書きかけ")
        terminal.wait_for("書きかけ")
        Path(f"{program}.end").touch()
        terminal.wait_for("\n> 書きかけ")
    assert saved(tmp_path)[0][::2] == ["あなたは誰?", "何ができますか?"]


def _row_of_the_cursor(terminal: Terminal) -> str:
    return terminal.screen.window[terminal.screen.raw.cursor.y]

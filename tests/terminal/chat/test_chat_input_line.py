"""The input line of ``tanuki chat``: graphemes, words, keys of newer protocols, replies of the terminal."""

from pathlib import Path
from typing import Final

import pytest
from wcwidth import wcswidth

from tanuki_cli.history import HistoryStore
from tests.support.program import COMMAND, Terminal, run

CHAT: Final = ("chat", "-m", "mame", "--temperature", "0", "--max-new-tokens", "2")
FAMILY, THUMB, FLAG, KEYCAP, GA = "👨\u200d👩\u200d👧", "👍🏽", "🇯🇵", "1\ufe0f\u20e3", "か\u3099"
LEFT, RIGHT, HOME, END = "\x1b[D", "\x1b[C", "\x01", "\x05"
BACKSPACE, DELETE, CTRL_D, CTRL_W, CTRL_Y = "\x7f", "\x1b[3~", "\x04", "\x17", "\x19"
ALT_B, ALT_F, ALT_D, ALT_BACKSPACE = "\x1bb", "\x1bf", "\x1bd", "\x1b\x7f"
SHIFT_ENTER, CTRL_ENTER, CTRL_LEFT = "\x1b[13;2u", "\x1b[27;5;13~", "\x1b[1;5D"


def open_chat(home: Path, *options: str, columns: int = 80, lines: int = 24) -> Terminal:
    terminal = Terminal(home, [*CHAT, *options], columns=columns, lines=lines)
    terminal.wait_for_prompt(0)
    return terminal


def questions(home: Path) -> list[str]:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        (one,) = store.list()
        nodes = store.load(one.id).path_nodes()
        return [node.message.content for node in nodes if node.message.role == "user"]


EDITS: Final = [
    # Moving and deleting by grapheme.
    (f"あ{FAMILY}い" + LEFT * 2 + "x", f"あx{FAMILY}い"),
    (f"あ{FAMILY}い" + LEFT + BACKSPACE, "あい"),
    (f"あ{FAMILY}い" + LEFT * 2 + DELETE, "あい"),
    (f"あ{FAMILY}い" + LEFT * 2 + CTRL_D, "あい"),
    (f"{THUMB}{FLAG}{KEYCAP}{GA}" + BACKSPACE, f"{THUMB}{FLAG}{KEYCAP}"),
    (f"{THUMB}{FLAG}{KEYCAP}{GA}" + BACKSPACE * 3, THUMB),
    (f"{THUMB}{FLAG}{KEYCAP}{GA}" + HOME + RIGHT * 3 + "x", f"{THUMB}{FLAG}{KEYCAP}x{GA}"),
    (f"{FLAG}{FLAG}{FLAG}" + LEFT + BACKSPACE + "x", f"{FLAG}x{FLAG}"),
    # Words.
    ("今日は東京タワーへ" + CTRL_W, "今日は東京タワー"),
    ("今日は東京タワーへ" + CTRL_W * 3, "今日は"),
    ("今日は、いい天気。" + ALT_BACKSPACE, "今日は、いい"),
    ("git commit src/main.py" + CTRL_W, "git commit "),
    ("これをsrc/main.py" + CTRL_W, "これを"),
    ("漢字かなカナ" + ALT_B + ALT_B + "x", "漢字xかなカナ"),
    ("漢字かなカナ" + CTRL_LEFT + "x", "漢字かなxカナ"),
    ("漢字かなカナ" + HOME + ALT_F + "x", "漢字xかなカナ"),
    ("漢字かなカナ" + HOME + ALT_D, "かなカナ"),
    ("漢字かなカナ" + CTRL_W * 2 + "x" + CTRL_Y, "漢字xかなカナ"),
    # Keys of newer protocols.
    ("一行目" + SHIFT_ENTER + "二行目" + CTRL_ENTER + "三行目", "一行目\n二行目\n三行目"),
    ("あ\x1b[13;2:3u\x1b[57441;2u\x1b[99;6u\x1b[97;9uい", "あい"),
    ("a\x1b[98;3ub", "ba"),
    ("あ\x1bz\x1b#\x1b[122;3uい", "あい"),
    # Replies of the terminal, and reports.
    ("あ\x1b[?62;22c\x1b[I\x1b[O\x1b]11;rgb:1e1e/1e1e/1e1e\x07\x1bP>|x(1)\x1b\\い", "あい"),
    ("あ\x1b[<0;10;5Mい", "あい"),
]


def test_moving_and_deleting(tmp_path: Path) -> None:
    """Each is typed, looked at, and sent; the cursor stands where the terminal draws the place."""
    # The shortest first: a longer past input is offered, and End would take it.
    edits = sorted(EDITS, key=lambda edit: len(edit[1]))
    with open_chat(tmp_path) as terminal:
        for typed, sent in edits:
            terminal.type(typed)
            terminal.settle()
            terminal.type(END)
            terminal.settle()
            shown = terminal.screen.window[terminal.screen.raw.cursor.y]
            blanks = len(sent) - len(sent.rstrip())  # the screen has none at the end of a line
            assert terminal.screen.raw.cursor.x == wcswidth(shown) + blanks, repr(typed)
            terminal.send("")
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0
    assert questions(tmp_path) == [sent for _typed, sent in edits]


@pytest.mark.parametrize("columns", [20, 80])
def test_ctrl_c_clears_a_paste_of_graphemes_and_leaves_the_prompt(tmp_path: Path, columns: int) -> None:
    with open_chat(tmp_path, columns=columns) as terminal:
        terminal.settle()
        before = terminal.text.rstrip()
        for pasted in (FAMILY, f"家族{FAMILY}です" * 5, f"{FLAG}{THUMB}{GA}{KEYCAP}" * 8):
            terminal.paste(pasted)
            terminal.settle()
            assert pasted in "".join(line.removeprefix(">").strip() for line in terminal.text.splitlines())
            terminal.interrupt()
            terminal.settle()
            assert terminal.text.split() == before.split()
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0


def test_pasted_tabs_are_shown_and_sent(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.paste("def f():\n\treturn\t漢\t1\n")
        terminal.settle()
        assert "\n          return  漢      1\n" in terminal.text
        assert "^I" not in terminal.text
        terminal.send("")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert questions(tmp_path)[0].rstrip("\n") == "def f():\n\treturn\t漢\t1"


def test_vi_keys_take_graphemes_and_words(tmp_path: Path) -> None:
    with open_chat(tmp_path, "--editing-mode", "vi") as terminal:
        for typed in (f"あ{FAMILY}い\x1b", "0", "l", "x", "A漢字かなカナ\x1b", "0", "w", "i-"):
            terminal.type(typed)
            terminal.settle()
        terminal.send("")
        terminal.type("\x1b")
        terminal.settle()
        terminal.type("i" + CTRL_D)
        terminal.wait_for_exit()
    assert questions(tmp_path) == ["あい-漢字かなカナ"]


def test_a_search_says_when_nothing_is_found(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.send("たぬき")
        terminal.type("\x12")
        terminal.wait_for("Search past input")
        terminal.type("たぬ")
        terminal.settle()
        assert "Nothing is found" not in terminal.text
        terminal.type("x")
        terminal.wait_for("Nothing is found in past input: たぬx")
        terminal.type("\x07")
        terminal.settle()
        assert "Nothing is found" not in terminal.text


def test_with_both_streams_elsewhere_the_prompt_is_on_the_terminal(tmp_path: Path) -> None:
    log, errors = tmp_path / "log", tmp_path / "errors"
    shell = ["sh", "-c", f'exec "$@" 2> {errors} | cat > {log}', "sh", *COMMAND]
    with Terminal(tmp_path, CHAT, command=shell) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("あなたは誰?")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
        assert "> あなたは誰?" in terminal.text
    assert log.read_bytes().strip()
    for path in (log, errors):
        assert b"\x1b" not in path.read_bytes()
        assert "あなたは誰?" not in path.read_text(encoding="utf-8").splitlines()


def test_ask_says_what_it_waits_for(tmp_path: Path) -> None:
    shell = [
        "sh",
        "-c",
        f'mkfifo {tmp_path}/pipe; exec 3<>{tmp_path}/pipe; "$@" < {tmp_path}/pipe',
        "sh",
        *COMMAND,
    ]
    with Terminal(tmp_path, ("ask", "-m", "mame", "あなたは誰?"), command=shell) as terminal:
        terminal.wait_for("Waiting for text from the standard input")
    at_once = run(tmp_path, "ask", "-m", "mame", "--max-new-tokens", "2", "あなたは誰?", stdin=b"")
    assert "Waiting" not in at_once.stderr

"""What the user of ``tanuki chat`` sees, with answers from a script on loopback.

``TANUKI_UPDATE_GOLDEN=1 pytest tests/test_chat_screens.py`` writes the golden screens anew; read the
difference before it is committed.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tanuki_cli.history import HistoryStore
from tests.conftest import until
from tests.support.chat_server import DONE, ChatServer, Cut, Hang, chat, chat_answer, chat_usage
from tests.support.program import Terminal

GOLDEN: Final = Path(__file__).parent / "golden"
UPDATE: Final = os.environ.get("TANUKI_UPDATE_GOLDEN") == "1"
SIZES: Final = ((80, 24), (40, 15), (20, 10))
BRACKETED_PASTE: Final = 2004 << 5
"""How pyte keeps a private mode."""
WINDOW: Final = "----- window -----"
ANSWER: Final = (
    "# たぬき\n\n**「ぽんぽこ」**と鳴くとされる動物です（実際には鳴きません）。\n\n",
    "- 一つ目の項目\n- 二つ目の項目\n\n```python\nprint('狸')\n```\n\n| 色 | 数 |\n|---|---|\n| 茶 | 2 |\n",
)


class Held(list[bytes | Cut | Hang]):
    """A script in parts, each of which waits until the test releases it."""

    def __init__(self, *parts: Sequence[bytes]) -> None:
        super().__init__(step for part in parts for step in part)
        self._parts = parts
        self._gates = [threading.Event() for _part in parts]

    def __iter__(self) -> Iterator[bytes | Cut | Hang]:
        for part, gate in zip(self._parts, self._gates, strict=True):
            assert gate.wait(60), "the test never released this part"
            yield from part

    def release(self, part: int) -> None:
        """Let ``part`` be sent."""
        self._gates[part].set()


def open_chat(
    home: Path, server: ChatServer, *options: str, lang: str = "en", columns: int = 80, lines: int = 24
) -> Terminal:
    arguments = ("chat", "-m", server.url, "--lang", lang, *options)
    terminal = Terminal(home, arguments, columns=columns, lines=lines)
    terminal.wait_for_prompt(0)
    return terminal


def only_conversation(home: Path) -> list[str]:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        (summary,) = store.list()
        return [node.message.content for node in store.load(summary.id).path_nodes()]


def masked(rows: Sequence[str], port: int) -> list[str]:
    """Rows without what differs from run to run: the port, which keeps its width, and the speed."""
    text = "\n".join(rows).replace(str(port), "0" * len(str(port)))
    return re.sub(r" · [\d.]+ (tok/s|tokens/s|トークン/秒)", "", text).split("\n")


def check_golden(terminal: Terminal, name: str, port: int, *, scrollback: bool) -> None:
    """Until scrollback and window are the golden file's, which is written in an update."""

    def seen() -> str:
        rows = [*terminal.screen.scrollback, WINDOW] if scrollback else []
        return "\n".join(masked([*rows, *terminal.screen.window], port)) + "\n"

    path = GOLDEN / f"{name}.txt"
    if UPDATE:
        until(lambda: not terminal.pump(1.0))
        path.write_text(seen(), encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    # Idle for a whole second: whatever is there then is what the user sees.
    while seen() != expected and terminal.pump(1.0):
        pass
    assert seen() == expected


@pytest.mark.parametrize("lang", ["ja", "en"])
@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_golden_screens(tmp_path: Path, columns: int, lines: int, lang: str) -> None:
    answer = [*map(chat, ANSWER), chat(finish="stop"), chat_usage(120, 60, 0), DONE]
    name = f"{lang}-{columns}x{lines}"
    with (
        ChatServer(answer) as server,
        open_chat(tmp_path, server, lang=lang, columns=columns, lines=lines) as terminal,
    ):
        check_golden(terminal, f"{name}-start", server.port, scrollback=True)
        terminal.send("狸は?")
        check_golden(terminal, f"{name}-turn", server.port, scrollback=False)
        terminal.send("/help")
        check_golden(terminal, f"{name}-help", server.port, scrollback=True)


def numbered(first: int, last: int) -> str:
    return "".join(f"- 第{number:03}項 たぬき\n" for number in range(first, last))


def wait_until_idle_with(terminal: Terminal, text: str) -> None:
    """Until ``text`` is shown, also across rows, and nothing has come for longer than a frame takes."""
    until(lambda: not terminal.pump(0.1) and text in terminal.text.replace("\n", ""))


@pytest.mark.parametrize("reflow", [True, False], ids=["reflow", "cut"])
def test_resize_in_mid_answer_loses_and_repeats_nothing(tmp_path: Path, reflow: bool) -> None:
    words = [f"語{number:03}、" for number in range(90)]
    paragraph = ["".join(words[start : start + 30]) for start in (0, 30, 60)]
    script = Held(
        [chat(numbered(0, 40) + "\n" + paragraph[0])],
        [chat(paragraph[1])],
        [chat(paragraph[2] + "\n\n" + numbered(40, 80)), chat(finish="stop"), DONE],
    )
    with ChatServer(script) as server, open_chat(tmp_path, server) as terminal:
        before = terminal.prompts
        terminal.type("長い話\r")
        script.release(0)
        wait_until_idle_with(terminal, "語029")
        terminal.resize(40, 24, reflow=reflow)
        script.release(1)
        wait_until_idle_with(terminal, "語059")
        terminal.resize(100, 24, reflow=reflow)
        script.release(2)
        terminal.wait_for_prompt(before)
        text = terminal.text.replace("\n", "")
    assert re.findall(r"第(\d{3})項", text) == [f"{number:03}" for number in range(80)]
    if reflow:  # a terminal that cuts rows cuts the 80 columns of the paragraph, too
        assert re.findall(r"語(\d{3})、", text) == [f"{number:03}" for number in range(90)]


def test_a_paste_into_an_answer_waits_as_one_message(tmp_path: Path) -> None:
    """The terminal marks it only if it was asked to; else every line of it would be sent."""
    script = Held([chat("一つ目")], [chat("の答え"), chat(finish="stop"), DONE])
    with ChatServer(script, chat_answer("二つ目の答え")) as server, open_chat(tmp_path, server) as terminal:
        before = terminal.prompts
        terminal.type("質問\r")
        script.release(0)
        terminal.wait_for("一つ目")
        assert BRACKETED_PASTE in terminal.screen.raw.mode
        terminal.paste("一行目\r二行目\r")
        script.release(1)
        terminal.wait_for_prompt(before)
        terminal.wait_for("二行目")
        terminal.send("")
        terminal.type("/exit\r")
        assert terminal.wait_for_exit() == 0
        assert BRACKETED_PASTE not in terminal.screen.raw.mode
    assert only_conversation(tmp_path)[2] == "一行目\n二行目\n"


@pytest.mark.parametrize("kind", ["list", "code", "plain"])
def test_500_lines_are_in_the_scrollback_exactly_once(tmp_path: Path, kind: str) -> None:
    body = numbered(0, 500)
    answer = f"```\n{body}```\n" if kind == "code" else body
    pieces = [answer[start : start + 7] for start in range(0, len(answer), 7)]
    options = ("--plain",) if kind == "plain" else ()
    with (
        ChatServer(chat_answer(*pieces)) as server,
        open_chat(tmp_path, server, *options) as terminal,
    ):
        terminal.send("全部")
        text = terminal.text
    assert re.findall(r"第(\d{3})項 たぬき", text) == [f"{number:03}" for number in range(500)]


@pytest.mark.parametrize("columns", [20, 21, 40])
@pytest.mark.parametrize("lead", ["", "a"])
def test_wide_characters_at_the_margin(tmp_path: Path, columns: int, lead: str) -> None:
    answer = lead + "".join(chr(ord("あ") + index) for index in range(80))
    with (
        ChatServer(chat_answer(*answer)) as server,
        open_chat(tmp_path, server, columns=columns, lines=15) as terminal,
    ):
        question = answer[:60]
        terminal.send(question)
        rows = terminal.screen.display
        text = "".join(rows).replace(" ", "")
    assert text.count(question) == 2, "\n".join(rows)  # as it was typed, and in the answer
    assert text.count(answer) == 1, "\n".join(rows)
    assert only_conversation(tmp_path) == [question, answer]


def test_paste_of_10000_characters_arrives_whole_and_is_not_sent(tmp_path: Path) -> None:
    lines = [f"{number:04}行目のとても長い、貼り付けた文章です。" for number in range(420)]
    text = "\n".join(lines)[:9996] + "（終）"
    with ChatServer(chat_answer("読みました。")) as server, open_chat(tmp_path, server) as terminal:
        terminal.paste(text)
        terminal.wait_for("（終）")
        assert server.requests == []
        terminal.send("")
        assert "読みました。" in terminal.text
    assert only_conversation(tmp_path) == [text, "読みました。"]


def test_an_answer_of_nothing_is_told_and_the_chat_goes_on(tmp_path: Path) -> None:
    with (
        ChatServer(chat_answer(), chat_answer("二つ目")) as server,
        open_chat(tmp_path, server) as terminal,
    ):
        terminal.send("一")
        assert "answered with nothing" in terminal.text
        terminal.send("二")
        assert "二つ目" in terminal.text
    assert only_conversation(tmp_path) == ["一", "", "二", "二つ目"]


def test_two_chats_at_once_on_one_history(tmp_path: Path) -> None:
    turns = 12
    with (
        ChatServer(*(chat_answer(f"答え{turn}") for turn in range(turns))) as one,
        ChatServer(*(chat_answer(f"こたえ{turn}") for turn in range(turns))) as other,
        open_chat(tmp_path, one) as left,
        open_chat(tmp_path, other) as right,
    ):
        for turn in range(turns):
            before = left.prompts, right.prompts
            left.type(f"左{turn}\r")
            right.type(f"右{turn}\r")
            left.wait_for_prompt(before[0])
            right.wait_for_prompt(before[1])
        for terminal in (left, right):
            assert "locked" not in terminal.text
            assert "not being saved" not in terminal.text
    (path,) = tmp_path.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        kept = [[node.message.content for node in store.load(one.id).path_nodes()] for one in store.list()]
    expected = [
        [text for turn in range(turns) for text in (f"{side}{turn}", f"{answer}{turn}")]
        for side, answer in (("右", "こたえ"), ("左", "答え"))
    ]
    assert sorted(kept) == sorted(expected)

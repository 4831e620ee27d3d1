"""What a voter sees and types, on a pseudo-terminal with a screen; answers come from scripts on loopback."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.text.width import cell_width
from tests.conftest import until
from tests.support.chat_server import DONE, ChatServer, Hang, chat, chat_answer
from tests.support.program import Terminal

WORDS = {
    "en": ("First answer", "Second answer", "1 first · 2 second", "first:", "tanuki arena results"),
    "ja": ("ひとつめ", "ふたつめ", "1 ひとつめ · 2 ふたつめ", "ひとつめ:", "tanuki arena results"),
}


def open_arena(
    home: Path, servers: Sequence[ChatServer], *options: str, columns: int = 80, lines: int = 24
) -> Terminal:
    arguments = ["arena", *(server.url for server in servers), *options]
    return Terminal(home, arguments, columns=columns, lines=lines)


def kept(home: Path) -> list[dict[str, Any]]:
    path = home / "data" / "arena" / "votes.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def has_prepared(home: Path, answer: str) -> bool:
    path = home / "data" / "arena" / "answers.jsonl"
    return path.exists() and answer in path.read_text(encoding="utf-8")


def wait_for_menus(terminal: Terminal, count: int, menu: str) -> None:
    until(lambda: (terminal.pump(0.05), terminal.text.count(menu) >= count)[1])


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 15)])
def test_a_typed_question_two_answers_and_a_vote(
    tmp_path: Path, language: str, columns: int, lines: int
) -> None:
    first, second, menu, names, end = WORDS[language]
    with (
        ChatServer(chat_answer("**甲**の答えです。", "\n\n- 一\n- 二")) as one,
        ChatServer(chat_answer("乙の答えは少し長く、四十桁の窓では折り返されます。")) as other,
        open_arena(tmp_path, [one, other], "--lang", language, columns=columns, lines=lines) as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("狸とは?\r")
        wait_for_menus(terminal, 1, menu)
        shown = terminal.text
        assert shown.index(first) < shown.index(second) < shown.index(menu)
        assert "甲の答えです。" in shown
        assert "**" not in shown
        assert one.url not in shown.partition(first)[2]
        assert all(cell_width(row) <= columns for row in terminal.screen.display)
        terminal.type("１\r")  # as an input method types it
        terminal.wait_for(names)
        (vote,) = kept(tmp_path)
        assert vote["verdict"] == "first"
        assert set(vote["models"]) == {one.url, other.url}
        terminal.wait_for_prompt(1)
        terminal.type("\x04")
        assert terminal.wait_for_exit() == 0
        # A long address is broken by the window.
        assert vote["models"][0] in terminal.text.replace("\n", "")
        assert end in " ".join(terminal.text.split())


def test_a_key_that_is_none_asks_again_and_more_goes_on_with_both(tmp_path: Path) -> None:
    menu = WORDS["en"][2]
    with (
        ChatServer(chat_answer("甲一"), chat_answer("甲二")) as one,
        ChatServer(chat_answer("乙一"), chat_answer("乙二")) as other,
        open_arena(tmp_path, [one, other]) as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一\r")
        wait_for_menus(terminal, 1, menu)
        terminal.type("x\r")
        wait_for_menus(terminal, 2, menu)
        terminal.type("m\r")
        terminal.wait_for_prompt(1)
        terminal.type("二\r")
        wait_for_menus(terminal, 3, menu)
        terminal.type("4\r")
        terminal.wait_for("both bad · first")
        terminal.wait_for_prompt(2)
        terminal.type("\x04")
        assert terminal.wait_for_exit() == 0
    (vote,) = kept(tmp_path)
    assert [turn["question"] for turn in vote["turns"]] == ["一", "二"]
    assert vote["verdict"] == "both-bad"


def test_ctrl_c_stops_an_answer_and_then_leaves(tmp_path: Path) -> None:
    """A stopped question is none; the ones before it stay, and the end names the models."""
    menu = WORDS["en"][2]
    with (
        ChatServer(chat_answer("甲一"), [chat("途中"), Hang()]) as one,
        ChatServer(chat_answer("乙一"), [chat("途中"), Hang()]) as other,
        open_arena(tmp_path, [one, other], "--blind-to-the-end") as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一\r")
        wait_for_menus(terminal, 1, menu)
        terminal.type("3\r")
        terminal.wait_for_prompt(1)
        assert "both good · first" not in terminal.text
        terminal.type("二\r")
        terminal.wait_for("途中")
        terminal.interrupt()
        terminal.wait_for("Stopped; this question counts for nothing.")
        terminal.wait_for_prompt(2)
        terminal.type("書きかけ")
        terminal.wait_for("書きかけ")
        terminal.interrupt()
        until(lambda: (terminal.pump(0.05), "書きかけ" not in terminal.text)[1])
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
        assert "1  both good · first: " in terminal.text
        assert "Traceback" not in terminal.text
    assert len(kept(tmp_path)) == 1


def test_ctrl_c_at_a_vote_leaves_without_it(tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("一\n二\n", encoding="utf-8")
    with (
        ChatServer(chat_answer("甲一"), chat_answer("甲二")) as one,
        ChatServer(chat_answer("乙一"), chat_answer("乙二")) as other,
    ):
        with open_arena(tmp_path, [one, other], "--prompts", str(questions)) as terminal:
            wait_for_menus(terminal, 1, WORDS["en"][2])
            assert "2 left" in terminal.text
            terminal.type("2\r")
            wait_for_menus(terminal, 2, WORDS["en"][2])
            terminal.interrupt()
            assert terminal.wait_for_exit() == 130
        assert len(kept(tmp_path)) == 1
        with open_arena(tmp_path, [one, other], "--prompts", str(questions)) as terminal:
            wait_for_menus(terminal, 1, WORDS["en"][2])
            assert "1 left" in terminal.text
            terminal.type("q\r")
            assert terminal.wait_for_exit() == 0
    assert len(kept(tmp_path)) == 1


def test_ctrl_c_while_answers_are_made_keeps_those_that_are_whole(tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("一\n二\n", encoding="utf-8")
    with (
        ChatServer(chat_answer("甲一"), [chat("途中"), Hang()]) as one,
        ChatServer(chat_answer("乙一"), chat_answer("乙二")) as other,
    ):
        with open_arena(tmp_path, [one, other], "--prompts", str(questions)) as terminal:
            until(lambda: (terminal.pump(0.05), one.waiting.is_set() and has_prepared(tmp_path, "甲一"))[1])
            terminal.interrupt()
            assert terminal.wait_for_exit() == 130
            assert "Traceback" not in terminal.text
        one.scripts = [chat_answer("甲二")]
        with open_arena(tmp_path, [one, other], "--prompts", str(questions)) as terminal:
            wait_for_menus(terminal, 1, WORDS["en"][2])
            terminal.type("1\r1\r")
            assert terminal.wait_for_exit() == 0
    assert len(one.requests) == 3
    assert {answer for vote in kept(tmp_path) for turn in vote["turns"] for answer in turn["answers"]} == {
        "甲一",
        "甲二",
        "乙一",
        "乙二",
    }


def test_answers_are_held_back_until_both_are_there(tmp_path: Path) -> None:
    with (
        ChatServer([chat("甲の答え"), chat(finish="stop"), DONE]) as one,
        ChatServer([chat("乙の答え"), Hang()]) as other,
        open_arena(tmp_path, [one, other], "--no-stream") as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一\r")
        until(lambda: (terminal.pump(0.05), other.waiting.is_set())[1])
        terminal.wait_for("the answers are shown together")
        assert "答え" not in terminal.text
        terminal.interrupt()
        terminal.wait_for("Stopped")
        assert "答え" not in terminal.text


def test_control_sequences_of_a_model_do_nothing(tmp_path: Path) -> None:
    with (
        ChatServer(chat_answer("甲\x1b]0;title\x07\x1b[2J")) as one,
        ChatServer(chat_answer("乙\x9b31m\x1b[?25l")) as other,
        open_arena(tmp_path, [one, other]) as terminal,
    ):
        terminal.wait_for_prompt(0)
        terminal.type("一\r")
        wait_for_menus(terminal, 1, WORDS["en"][2])
        assert terminal.screen.raw.title == ""
        assert "甲" in terminal.text
        assert "乙" in terminal.text

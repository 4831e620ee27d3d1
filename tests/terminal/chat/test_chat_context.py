"""How full a chat is, what is left out, files that are too large, and lists that are numbered."""

import json
from pathlib import Path
from typing import Final

from tests.support.chat_server import ChatServer, chat
from tests.support.program import Terminal, run

CHAT: Final = (
    "chat",
    "-m",
    "mame",
    "--temperature",
    "0",
    "--context-length",
    "512",
    "--max-new-tokens",
    "64",
)


def script(home: Path, *lines: str) -> str:
    done = run(home, *CHAT, stdin="\n".join([*lines, ""]).encode())
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_status_line_and_context_count_to_the_same_limit(tmp_path: Path) -> None:
    with Terminal(tmp_path, CHAT) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("こんにちは")
        terminal.wait_for("/448 · ")
        assert "characters left" not in terminal.text
        terminal.send("/context")
        assert "/448 tokens (the other 64 are for the answer)." in terminal.text
        assert "\n  you: こんにちは\n  mame: " in terminal.text


def test_the_room_is_told_in_characters_when_it_gets_short(tmp_path: Path) -> None:
    with Terminal(tmp_path, CHAT, columns=120) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("たぬきの話をして。" * 100)
        terminal.wait_for("characters left)")


def test_nothing_is_counted_where_a_server_counts_nothing(tmp_path: Path) -> None:
    with ChatServer([chat("はい。")]) as server, Terminal(tmp_path, ("chat", "-m", server.url)) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send("長い質問です。" * 30)
        assert "characters left" not in terminal.text
        terminal.send("/stats")


def test_what_is_left_out_is_told_when_its_number_changes(tmp_path: Path) -> None:
    long = "たぬきはどんな動物か、たぬきは何を食べるか、たぬきはどこに住むか、教えてください。" * 3
    notes = [line for line in script(tmp_path, *[long] * 9).splitlines() if "are left out" in line]
    assert notes
    assert len(notes) == len(set(notes)) < 9


def test_a_file_that_is_too_large_is_told_at_once_and_can_lose_its_middle(tmp_path: Path) -> None:
    big = tmp_path / "big 本.txt"
    big.write_text("たぬきの話。" * 500 + "\n", encoding="utf-8")
    refused = run(tmp_path, *CHAT, stdin=f"/file {big}\n".encode())
    assert refused.returncode == 2
    assert "is too long: of its 3,000 characters about " in refused.stderr
    assert f"/file --truncate {big}" in refused.stderr
    said = script(tmp_path, f"/file --truncate {big}", "要約して")
    assert "characters in its middle were left out" in said
    assert "goes with the next message" in said


def test_an_emoji_in_two_halves_is_one(tmp_path: Path) -> None:
    first, second = (
        chat("いいFIRST").replace(b"FIRST", b"\\ud83d"),
        chat("SECONDね").replace(b"SECOND", b"\\udc4d"),
    )
    with ChatServer([first, second]) as server:
        done = run(tmp_path, "ask", "-m", server.url, "どう?")
    assert done.stdout == "いい👍ね\n"


def test_conversations_are_numbered_and_a_number_goes_on(tmp_path: Path) -> None:
    for title in ("一つ目", "二つ目", "三つ目"):
        script(tmp_path, title)
    listed = [line.split() for line in script(tmp_path, "/resume").splitlines() if "つ目" in line]
    assert [(row[0], row[-1]) for row in listed] == [("3", "一つ目"), ("2", "二つ目"), ("1", "三つ目")]
    assert "Going on with “二つ目”" in script(tmp_path, "/resume 2")
    assert run(tmp_path, "history", "show", "3").stdout.startswith("一つ目")
    ids = {len(row[1]) for row in listed}
    shown = run(tmp_path, "history", "list").stdout.split()[0]
    assert ids == {len(shown)}
    with Terminal(tmp_path, ("history", "list")) as terminal:
        assert terminal.wait_for_exit() == 0
        rows = [line.split() for line in terminal.text.splitlines()]
        assert [row[0] for row in rows] == ["3", "2", "1"]


def test_resume_offers_chats_first_and_a_question_that_goes_on_is_a_chat(tmp_path: Path) -> None:
    def kinds() -> list[tuple[str, str]]:
        listed = json.loads(run(tmp_path, "history", "list", "--json").stdout)["conversations"]
        return [(one["title"], one["kind"]) for one in listed]

    script(tmp_path, "会話です")
    for question in ("問い一", "問い二"):
        assert run(tmp_path, "ask", *CHAT[1:], question).returncode == 0
    assert run(tmp_path, "ask", *CHAT[1:], "-c", "さらに").returncode == 0
    assert kinds() == [("問い二", "question"), ("問い一", "question"), ("会話です", "chat")]
    rows = script(tmp_path, "/resume").splitlines()
    rows = rows[rows.index("Questions (tanuki ask)") :][:5]
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        ("Questions", "ask)"),
        ("3", "問い一"),
        ("2", "問い二"),
        ("Chats", "chat)"),
        ("1", "会話です"),
    ]
    script(tmp_path, "/resume 3")  # to look at it leaves it what it is
    assert kinds()[1:] == [("問い一", "question"), ("会話です", "chat")]
    script(tmp_path, "/resume\n/resume ３\nどうして?")
    assert kinds()[:2] == [("問い一", "chat"), ("問い二", "question")]
    assert run(tmp_path, *CHAT, "--resume", "3", stdin=b"/retry\n").returncode == 0
    assert kinds()[0] == ("問い二", "chat")


def test_edit_says_what_is_an_answer_and_lang_tells(tmp_path: Path) -> None:
    done = run(tmp_path, *CHAT, stdin="こんにちは\n/lang\n/edit 2\n".encode())
    assert done.returncode == 2
    assert "Message 2 is an answer; /edit takes a question." in done.stderr
    assert "/edit 1" in done.stderr
    assert "Messages are in English. Change: /lang ja" in done.stderr


def test_vi_is_on_the_status_line(tmp_path: Path) -> None:
    with Terminal(tmp_path, [*CHAT, "--editing-mode", "vi", "--no-save"]) as terminal:
        terminal.wait_for_prompt(0)
        terminal.wait_for("not saved · vi")

"""``tanuki history`` as its users run it."""

import json
import re
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

import pytest

from tanuki_cli.cli import app
from tanuki_cli.cli.run import run
from tanuki_cli.conversation import Conversation, ConversationKind, Generation, Message
from tanuki_cli.history import HistoryStore
from tests.support.program import Terminal

DONE = Generation(model="mame", finish_reason="stop")

Tanuki = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tanuki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tanuki:
    """Runs ``tanuki history …`` off a terminal: exit code, stdout, stderr."""
    monkeypatch.setenv("TANUKI_HOME", str(tmp_path))
    monkeypatch.setenv("TANUKI_LANG", "en")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(app, ["history", *arguments])
        printed = capsys.readouterr()
        assert "\x1b" not in printed.out + printed.err
        return code, printed.out, printed.err

    return command


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path / "data" / "history.sqlite3")


def talk(store: HistoryStore, question: str, *answers: str, kind: ConversationKind = "chat") -> Conversation:
    """A conversation with one question; each answer is another sibling."""
    conversation = Conversation(kind=kind)
    asked = conversation.append(Message("user", question))
    for answer in answers:
        conversation.branch(asked.id)
        conversation.append(Message("assistant", answer), generation=DONE)
    store.save(conversation)
    store.close()
    return conversation


def test_there_are_no_conversations_yet(tanuki: Tanuki, tmp_path: Path) -> None:
    assert tanuki("list") == (0, "", "There are no conversations yet.\n")
    assert json.loads(tanuki("list", "--json")[1]) == {"conversations": []}
    assert tanuki("search", "の") == (0, "", "Nothing was found for 'の'.\n")
    code, out, err = tanuki("show")
    assert (code, out) == (8, "")
    assert err == "Error: There are no conversations yet.\n  Hint: tanuki chat\n"
    assert list(tmp_path.iterdir()) == []


def test_list(tanuki: Tanuki, store: HistoryStore) -> None:
    first = talk(store, "東京の天気は？", "晴れ")
    second = talk(store, "ガソリン\x1b[31mの値段", "170 円", "180 円")
    code, out, err = tanuki("list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(
        rf"{second.id[:6]}  {time}  3 messages  chat      ガソリン\[31mの値段",
        lines[0].replace(" [31m", "[31m"),
    )
    assert re.fullmatch(rf"{first.id[:6]}  {time}  2 messages  chat      東京の天気は？", lines[1])
    assert len(lines) == 2
    code, out, err = tanuki("list", "--limit", "1")
    assert (len(out.splitlines()), "--limit" in err) == (1, True)
    for limit in ("0", "-1", "many"):
        code, out, err = tanuki("list", "--limit", limit)
        assert (code, out) == (2, "")
        assert f"--limit cannot be '{limit}': allowed is 1 to 1000000." in err
        assert err.endswith("--limit 20\n")
    listed = json.loads(tanuki("list", "--json")[1])["conversations"]
    assert [one["id"] for one in listed] == [second.id, first.id]
    assert (listed[0]["messages"], listed[0]["model"]) == (3, "mame")


def test_list_tells_chats_and_questions_apart(tanuki: Tanuki, store: HistoryStore) -> None:
    chat, question = talk(store, "会話", "答え"), talk(store, "質問", "答え", kind="question")
    rows = [re.split(" {2,}", line) for line in tanuki("list")[1].splitlines()]
    assert [(row[0], row[3], row[4]) for row in rows] == [
        (question.id[:6], "question", "質問"),
        (chat.id[:6], "chat", "会話"),
    ]
    for kind, ids in (("chat", [chat.id]), ("ＱＵＥＳＴＩＯＮ", [question.id])):
        listed = json.loads(tanuki("list", "--json", "--kind", kind)[1])["conversations"]
        assert [one["id"] for one in listed] == ids
        exported = json.loads(tanuki("export", "--all", "--format", "json", "--kind", kind)[1])
        assert [one["id"] for one in exported["conversations"]] == ids
    assert {one["kind"] for one in json.loads(tanuki("list", "--json")[1])["conversations"]} == {
        "chat",
        "question",
    }
    assert "Hint: tanuki history export --all --kind chat\n" in tanuki("export", "--kind", "chat")[2]
    code, out, err = tanuki("list", "--kind", "asks")
    assert (code, out) == (2, "")
    assert "chat, question" in err
    assert err.endswith("Hint: --kind chat\n")
    for number in range(3):
        talk(store, f"{number}", "答え", kind="question")
    assert "tanuki history list --kind chat" in tanuki("list", "--limit", "2")[2]


def test_on_a_terminal_chats_are_the_last_and_have_the_first_numbers(
    store: HistoryStore, tmp_path: Path
) -> None:
    for chat, question in (("ア", "イ"), ("ウ", "エ")):
        talk(store, chat, "答え")
        talk(store, question, "答え", kind="question")
    store.close()
    with Terminal(tmp_path, ["history", "list"]) as terminal:
        assert terminal.wait_for_exit() == 0
        rows = [line.split() for line in terminal.text.splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [
        ("Questions", "ask)"),
        ("4", "イ"),
        ("3", "エ"),
        ("Chats", "chat)"),
        ("2", "ア"),
        ("1", "ウ"),
    ]
    with Terminal(tmp_path, ["history", "list", "--kind", "question"]) as terminal:
        assert terminal.wait_for_exit() == 0
        assert [line.split()[0] for line in terminal.text.splitlines()] == ["Questions", "4", "3"]


def test_in_a_narrow_window_the_title_stays_and_every_conversation_has_one_line(
    store: HistoryStore, tmp_path: Path
) -> None:
    for title in ("分福茶釜の話", "たぬき"):
        talk(store, title, "答え")
    with Terminal(tmp_path, ["history", "list"], columns=40, lines=15) as terminal:
        assert terminal.wait_for_exit() == 0
        rows = [line.split() for line in terminal.text.rstrip().split("\n")]
    assert [(row[0], row[-1][:4]) for row in rows] == [("2", "分福茶釜"), ("1", "たぬき")]


def test_show_tells_of_the_other_branches(tanuki: Tanuki, store: HistoryStore) -> None:
    conversation = talk(store, "値段は？", "170 円", "180 円\x1b[2J\n二行目")
    code, out, err = tanuki("show", conversation.id[:4])
    assert (code, err) == (0, "")
    assert "170 円" not in out
    assert "\n値段は？\n" in out
    assert "\n180 円␛[2J\n二行目\n" in out
    assert "[2/2]" in out
    assert "1 more on other branches" in out
    shown = json.loads(tanuki("show", conversation.id, "--json")[1])
    assert len(shown["nodes"]) == 3
    assert shown["path"] == [shown["nodes"][0]["id"], shown["nodes"][2]["id"]]
    assert tanuki("show")[1] == out


@pytest.mark.fast
def test_search(tanuki: Tanuki, store: HistoryStore) -> None:
    conversation = talk(store, "ガソリンの値段は？", "高い", "安い")
    code, out, err = tanuki("search", "ｶﾞｿﾘﾝ", "値")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith(conversation.id[:6])
    assert out.splitlines()[1] == "  ガソリンの値段は？"
    assert "[other branch]" in tanuki("search", "高い")[1]
    (hit,) = json.loads(tanuki("search", "ｶﾞｿﾘﾝ", "--json")[1])["hits"]
    assert [hit["content"][start:end] for start, end in hit["highlights"]] == ["ガソリン"]
    assert (hit["conversation_id"], hit["role"], hit["on_path"]) == (conversation.id, "user", True)
    assert tanuki("search", " ")[0] == 2


def test_export_and_import(tanuki: Tanuki, store: HistoryStore, tmp_path: Path) -> None:
    first, second = talk(store, "一つ目", "答え"), talk(store, "二つ目", "答え", "別の答え")
    file = tmp_path / "all.json"
    code, out, err = tanuki("export", "--all", "-o", str(file))
    assert (code, out) == (0, "")
    assert "2 conversations" in err
    assert tanuki("export", "--all", "-o", str(file))[0] == 2
    assert tanuki("export")[1].startswith("# 二つ目\n")
    messages = [json.loads(tanuki("export", first.id, "--format", "jsonl")[1])["messages"][0]]
    assert messages == [{"role": "user", "content": "一つ目"}]
    assert tanuki("export", "--format", "pdf")[0] == 2
    code, _out, err = tanuki("export", "-o", str(tmp_path / "表.csv"))
    assert (code, "表.csv must end in .md, .json or .jsonl." in err) == (2, True)
    assert tanuki("export", "--format", "md", "-o", str(tmp_path / "表.csv"))[0] == 0
    assert tanuki("rm", "--yes", first.id, second.id)[0] == 0
    assert tanuki("list")[1] == ""
    code, out, err = tanuki("import", str(file))
    assert (code, "Conversations added: 2;" in err) == (0, True)
    assert store.load(first.id) == first
    assert store.load(second.id) == second
    assert tanuki("import", str(tmp_path / "none.json"))[0] == 2


def test_import_from_stdin(
    tanuki: Tanuki, store: HistoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = talk(store, "質問", "答え")
    file = tmp_path / "one.json"
    file.write_text(tanuki("export", "--format", "json")[1], encoding="utf-8")
    tanuki("rm", "--yes", conversation.id)
    with file.open("rb") as stdin:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(stdin))
        assert tanuki("import", "-")[0] == 0
    assert store.load(conversation.id) == conversation


def test_json_from_stdin_that_is_no_history_is_named_as_such(
    tanuki: Tanuki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"a": 1}', encoding="utf-8")
    with file.open("rb") as stdin:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(stdin))
        code, _out, err = tanuki("import", "-")
    assert code == 2
    assert "The standard input cannot be imported: 'format' is missing" in err


def test_a_message_goes_into_a_pipe_as_it_is(tanuki: Tanuki, store: HistoryStore) -> None:
    conversation = talk(store, "表\tです", "列 1\t列 2\n" + "長" * 300)
    code, out, _err = tanuki("show", conversation.id)
    assert code == 0
    assert "\n表\tです\n" in out
    assert "\n列 1\t列 2\n" + "長" * 300 + "\n" in out


def test_title(tanuki: Tanuki, store: HistoryStore) -> None:
    conversation = talk(store, "質問", "答え")
    assert tanuki("title", conversation.id) == (0, "質問\n", "")
    assert tanuki("title", conversation.id[:5], "新しい", "題") == (0, "新しい 題\n", "")
    assert store.load(conversation.id).title == "新しい 題"
    assert tanuki("title", conversation.id, "全　角の", "題\n二行") == (0, "全　角の 題 二行\n", "")


def test_rm_needs_yes_where_nobody_can_be_asked(tanuki: Tanuki, store: HistoryStore) -> None:
    conversation = talk(store, "質問", "答え")
    code, out, err = tanuki("rm", conversation.id[:5])
    assert (code, out) == (2, "")
    assert f"tanuki history rm --yes {conversation.id}" in err
    assert tanuki("rm", "--yes", conversation.id, "ffff")[0] == 8
    assert store.load(conversation.id) == conversation
    assert tanuki("rm", "--yes", conversation.id[:5])[0] == 0
    assert list(store.list()) == []


def test_an_id_that_fits_several_names_them(tanuki: Tanuki, store: HistoryStore) -> None:
    for id_ in ("abcd000000000000", "abcd111111111111"):
        conversation = Conversation(id=id_)
        conversation.append(Message("user", f"質問 {id_[-1]}"))
        store.save(conversation)
    code, out, err = tanuki("show", "abcd")
    assert (code, out) == (8, "")
    assert "abcd00 質問 0" in err
    assert "abcd11 質問 1" in err


def test_a_damaged_history_is_set_aside_and_recovered(
    tanuki: Tanuki, store: HistoryStore, tmp_path: Path
) -> None:
    conversation = talk(store, "大事な質問", "大事な答え")
    data = store.path.read_bytes()
    store.path.write_bytes(b"not a database" + data[14:])
    code, out, err = tanuki("list")
    assert (code, out) == (0, "")
    assert "history.sqlite3.corrupt-" in err
    assert "tanuki history recover" in err
    code, out, err = tanuki("recover")
    assert (code, out) == (0, "")
    assert "Conversations: 1; messages: 2." in err
    assert store.load(conversation.id) == conversation
    assert len(list((tmp_path / "data").glob("*.corrupt-*"))) == 1


def test_on_a_terminal_rm_asks_and_hits_are_marked(store: HistoryStore, tmp_path: Path) -> None:
    conversation = talk(store, "ガソリン", "答え")
    with Terminal(tmp_path, ["history", "search", "ｶﾞｿﾘﾝ"]) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "ガソリン" in terminal.text
        assert b"\x1b[1;33m" in terminal.raw
    with Terminal(tmp_path, ["history", "rm", conversation.id]) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("n\r")
        terminal.wait_for("Nothing was removed.")
        assert terminal.wait_for_exit() == 0
    assert store.load(conversation.id) == conversation
    store.close()
    with Terminal(tmp_path, ["history", "rm", conversation.id]) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("はい\r")
        assert terminal.wait_for_exit() == 0
    assert list(store.list()) == []


@pytest.mark.parametrize("columns", [40, 36])
def test_what_was_found_has_one_line_of_its_own_in_a_narrow_window(
    store: HistoryStore, tmp_path: Path, columns: int
) -> None:
    talk(store, "たぬきはどんな動物?", "たぬきはイヌ科です。")
    with Terminal(tmp_path, ["history", "search", "たぬき"], columns=columns) as terminal:
        assert terminal.wait_for_exit() == 0
        rows = terminal.screen.display
    assert len(rows) == 4
    assert all(
        re.match(r"[0-9a-f]{6}  \d{4}-\d\d-\d\d \d\d:\d\d  (You|Tanuki)(  |$)", row) for row in rows[::2]
    )
    assert [row.strip() for row in rows[1::2]] == ["たぬきはイヌ科です。", "たぬきはどんな動物?"]

"""The store on real files: what goes in comes out, nothing is overwritten."""

import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.conversation import (
    Conversation,
    ConversationSettings,
    Message,
    Node,
    new_id,
)
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import AmbiguousIdError, HistoryStore, UnknownConversationError
from tanuki_cli.history.titles import MAX_TITLE_CELLS, title_from
from tanuki_cli.sampling import SamplingOptions
from tests.support.calls import calls_of
from tests.support.history_data import FINISHED, UNFINISHED, ask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data" / "history.sqlite3"


def talk(question: str, *, id: str | None = None, title: str = "") -> Conversation:
    conversation = Conversation(id=id or new_id(), title=title)
    ask(conversation, question, "答え")
    return conversation


def test_nothing_is_made_before_the_first_save(path: Path) -> None:
    with HistoryStore(path) as store:
        store.save(Conversation(title="まだ空"))
        assert store.list() == []
        assert store.latest() is None
        with pytest.raises(HistoryError, match="no conversation"):
            store.load("abcd")
    assert not path.parent.parent.exists()


def test_files_are_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with HistoryStore(path) as store:
            store.save(talk("質問"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("history.sqlite3", "history.sqlite3-wal", "history.sqlite3-shm"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    with HistoryStore(path) as store:
        store.save(talk("質問"))
    path.chmod(0o644)
    with HistoryStore(path) as store:
        store.save(talk("質問"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_conversation_comes_back_equal(path: Path) -> None:
    conversation = Conversation(
        title="旅行",
        system="短く答えてください。",
        settings=ConversationSettings(
            model="tanuki-8b:q4_k_m",
            sampling=SamplingOptions(temperature=0.0, top_k=5, stop=("\n\n", "終"), seed=2**32 - 2),
            context_length=2048,
            persona="先生",
        ),
    )
    first = ask(conversation, "東京は？", "晴れです。\x00\x1b[31m\r\n")
    ask(conversation, "大阪は？", "雨です。")
    conversation.branch(first.id)
    ask(conversation, "京都は？", "🦝" * 3)
    conversation.branch(None)
    ask(conversation, "最初から", "はい")
    with HistoryStore(path) as store:
        store.save(conversation)
    with HistoryStore(path) as store:
        assert store.load(conversation.id) == conversation
        store.set_tip(conversation.id, first.id)
        conversation.branch(first.id)
        assert store.load(conversation.id) == conversation


def test_text_that_is_no_unicode_is_saved_with_replacements(path: Path) -> None:
    conversation = Conversation()
    conversation.append(Message("user", "a\udce3b"))
    with HistoryStore(path) as store:
        store.save(conversation)
        assert store.load(conversation.id).path()[-1].content == "a\ufffdb"


def test_an_answer_grows_until_it_is_finished(path: Path) -> None:
    conversation = Conversation()
    conversation.append(Message("user", "質問"))
    node = conversation.append(Message("assistant", ""), generation=UNFINISHED)
    with HistoryStore(path) as store, HistoryStore(path) as other:
        store.save(conversation)
        for text in ("あ", "あい"):
            store.update_node(conversation.id, conversation.update(node.id, text, UNFINISHED))
            assert other.load(conversation.id) == conversation
        done = conversation.update(node.id, "あいう", FINISHED)
        store.update_node(conversation.id, done)
        assert other.load(conversation.id) == conversation
        with pytest.raises(HistoryError, match="cannot be saved"):
            store.update_node(conversation.id, replace(done, message=Message("assistant", "別")))
        assert other.load(conversation.id) == conversation


def test_save_catches_up_with_what_was_not_written(path: Path) -> None:
    conversation = Conversation()
    conversation.append(Message("user", "質問"))
    node = conversation.append(Message("assistant", ""), generation=UNFINISHED)
    with HistoryStore(path) as store:
        store.save(conversation)
        conversation.update(node.id, "答え", FINISHED)
        ask(conversation, "次", "次の答え")
        store.save(conversation)
        assert store.load(conversation.id) == conversation


def test_a_turn_takes_no_more_steps_whatever_came_before(path: Path) -> None:
    """Counted in steps of SQLite's virtual machine: the same number for turn 10 and turn 300."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    taken = []
    conversation = Conversation()
    with HistoryStore(path) as store:
        for _turn in range(300):
            ask(conversation, "質問", "答え")
            steps = 0
            store.save(conversation)
            store._database._open(create=False).set_progress_handler(count, 1)
            taken.append(steps)
        assert len(store.load(conversation.id).nodes) == 600
    assert taken[10] > 100
    assert taken[-1] < 1.1 * taken[10]


def test_a_conversation_read_anew_with_fewer_nodes_is_saved_whole(path: Path) -> None:
    """What was left out as damaged when it was read must not make the next message look saved."""
    with HistoryStore(path) as store:
        whole = talk("一")
        ask(whole, "二", "答え")
        store.save(whole)
        shorter = Conversation(id=whole.id, title=whole.title)
        shorter.restore(list(whole.nodes.values())[:2], tip=list(whole.nodes)[1])
        ask(shorter, "三", "答え")
        ask(shorter, "四", "答え")
        store.save(shorter)
        assert {node.message.content for node in store.load(whole.id).nodes.values()} == {
            "一", "二", "三", "四", "答え"
        }  # fmt: skip


def test_a_conversation_deleted_by_another_process_comes_back_with_the_next_message(path: Path) -> None:
    conversation = Conversation()
    conversation.append(Message("user", "質問"))
    node = conversation.append(Message("assistant", ""), generation=UNFINISHED)
    with HistoryStore(path) as store, HistoryStore(path) as other:
        store.save(conversation)
        other.delete(conversation.id)
        with pytest.raises(HistoryError, match="no longer"):
            store.update_node(conversation.id, conversation.update(node.id, "答え", FINISHED))
        assert other.list() == []
        conversation.append(Message("user", "続き"))
        store.save(conversation)
        assert other.load(conversation.id) == conversation


def test_a_saved_title_is_not_overwritten_by_a_save(path: Path) -> None:
    conversation = Conversation()
    ask(conversation, "# 富士山の高さは？ 教えて", "3776 m")
    with HistoryStore(path) as store, HistoryStore(path) as other:
        store.save(conversation)
        assert conversation.title == "富士山の高さは？"
        other.set_title(conversation.id, "山")
        ask(conversation, "二番目は？", "北岳")
        store.save(conversation)
        assert store.load(conversation.id).title == "山"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n\n  こんにちは。元気ですか。\n次", "こんにちは"),
        ("What is it? Tell me.", "What is it?"),
        ("3.14 とは", "3.14 とは"),
        ("```python\nimport os\n```", "import os"),
        ("> - 引用", "- 引用"),
        ("\x1b[31m赤\x07 \u202e字", "[31m赤 字"),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_titles_are_the_first_sentence(text: str, title: str) -> None:
    assert title_from(text) == title


def test_a_long_title_is_cut_to_its_cells() -> None:
    title = title_from("漢" * 100)
    assert title == "漢" * ((MAX_TITLE_CELLS - 1) // 2) + "…"
    assert title_from("a" * MAX_TITLE_CELLS) == "a" * MAX_TITLE_CELLS


def test_ids_are_found_by_their_beginning(path: Path) -> None:
    ids = ("aaaa000000000000", "aaab000000000000", "bbbb000000000000")
    with HistoryStore(path) as store:
        for id_ in ids:
            store.save(talk("質問", id=id_))
        assert store.load("b").id == ids[2]
        assert store.load("aaab").id == ids[1]
        with pytest.raises(AmbiguousIdError) as caught:
            store.load("aaa")
        assert {one.id for one in caught.value.candidates} == set(ids[:2])
        assert "2 conversations" in caught.value.message
        for unknown in ("c", "aaaa0000000000000", "%", "_"):
            with pytest.raises(HistoryError, match="no conversation"):
                store.load(unknown)


def test_a_conversation_is_found_by_what_is_in_it(path: Path) -> None:
    first, second = talk("東京の天気", title="旅行の計画"), talk("大阪の天気")
    with HistoryStore(path) as store:
        store.save(first)
        store.save(second)
        assert store.find(first.id[:8]) == first
        assert store.find("大阪") == second
        assert store.find("旅行 計画") == first
        with pytest.raises(AmbiguousIdError, match="fits 2") as caught:
            store.find("天気")
        assert [one.id for one in caught.value.candidates] == [second.id, first.id]
        for unknown in ("京都", " "):
            with pytest.raises(UnknownConversationError):
                store.find(unknown)


def test_ids_are_shortened_as_far_as_they_stay_apart(path: Path) -> None:
    with HistoryStore(path) as store:
        assert store.id_digits() == 6
        store.save(talk("a", id="aaaaaaaa00000000"))
        store.save(talk("b", id="bbbbbbbb00000000"))
        assert store.id_digits() == 6
        store.save(talk("c", id="aaaaaaaab0000000"))
        assert store.id_digits() == 9


def test_the_list_begins_with_what_was_last_talked_in(path: Path) -> None:
    first, second = Conversation(title="一"), Conversation(title="二")
    ask(first, "a", "b")
    ask(second, "c", "d")
    with HistoryStore(path) as store:
        store.save(first)
        store.save(second)
        assert [one.title for one in store.list()] == ["二", "一"]
        ask(first, "e", "f")
        store.save(first)
        assert [(one.title, one.messages, one.model) for one in store.list()] == [
            ("一", 4, "mame"),
            ("二", 2, "mame"),
        ]
        assert [one.title for one in store.list(limit=1)] == ["一"]
        assert store.latest() == first


def test_deleted_text_is_not_left_in_the_file(path: Path) -> None:
    secret = "ひみつのことば" * 2000
    kept, gone = Conversation(), Conversation()
    ask(kept, "残る", "残る")
    ask(gone, "消える", secret)
    with HistoryStore(path) as store:
        store.save(kept)
        store.save(gone)
        store.delete(gone.id)
        assert [one.id for one in store.list()] == [kept.id]
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert "残る".encode() in files
    assert "ひみつのことば".encode() not in files


def test_the_file_itself_refuses_a_broken_tree(path: Path) -> None:
    conversation, other = Conversation(), Conversation()
    ask(conversation, "a", "b")
    ask(other, "c", "d")
    with HistoryStore(path) as store:
        store.save(conversation)
        store.save(other)
        with pytest.raises(HistoryError):
            store.set_tip(conversation.id, other.tip)
    orphan = Node(id="0" * 16, parent_id=other.tip, message=Message("user", "x"), created_at=other.created_at)
    conversation.nodes[orphan.id] = orphan
    with HistoryStore(path) as store, pytest.raises(HistoryError):
        store.save(conversation)


def test_a_turn_is_saved_as_quickly_after_a_thousand_as_after_ten(path: Path) -> None:
    """Nothing is called for each of the turns that are saved already."""
    conversation = Conversation()
    costs = []
    with HistoryStore(path) as store:
        for turns in (10, 1000):
            while len(conversation.nodes) < 2 * turns:
                ask(conversation, "質問", "答え")
            store.save(conversation)
            ask(conversation, "次の質問", "次の答え")
            costs.append(calls_of(lambda: store.save(conversation)))
            newest = conversation.path_nodes()[-1].created_at
            assert store.list()[0].updated_at == newest
    assert costs[0] == costs[1]

"""Questions of ``ask`` and chats: kept apart, numbered apart, and what a chat goes on with is a chat."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, ConversationKind
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.transfer import export_text, from_json
from tests.support.history_data import ask


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path / "data" / "history.sqlite3")


def talk(store: HistoryStore, text: str, kind: ConversationKind | None) -> Conversation:
    conversation = Conversation(kind=kind)
    ask(conversation, text, "答え")
    store.save(conversation)
    return conversation


def test_each_kind_is_listed_and_numbered_by_itself(store: HistoryStore) -> None:
    made = [talk(store, f"{kind} {n}", kind) for n in range(2) for kind in ("chat", "question", None)]
    chat, question, unknown, chat_2, question_2, unknown_2 = (one.id for one in made)
    assert [one.id for one in store.list(kind="chat")] == [unknown_2, chat_2, unknown, chat]
    assert [one.id for one in store.list(kind="question", limit=1)] == [question_2]
    assert [one.id for one in store.list()] == [one.id for one in reversed(made)]
    assert [one.number for one in store.list()] == [1, 5, 2, 3, 6, 4]
    for one in store.list():
        assert store.load(str(one.number)).id == one.id
    offered = store.offered(chats=2, questions=5)
    assert [one.id for one in offered] == [unknown_2, chat_2, question_2, question]
    latest = store.latest()
    assert latest is not None
    assert latest.id == unknown_2


def test_a_chat_stays_one_for_the_process_that_asked(store: HistoryStore) -> None:
    """The answer of a question is still being written when a chat goes on with it."""
    asked = talk(store, "質問", "question")
    taken = store.load(asked.id)
    taken.kind = "chat"
    ask(taken, "続き", "答え")
    store.save(taken)
    ask(asked, "もう一つ", "答え")
    store.save(asked)
    assert store.load(asked.id).kind == "chat"


def test_an_export_keeps_the_kind_and_an_import_makes_a_chat_of_a_question(store: HistoryStore) -> None:
    made = [talk(store, f"{kind}", kind) for kind in ("chat", "question", None)]
    text = export_text(made, format="json")
    assert from_json(text, name="f") == made
    document = json.loads(text)
    for one in document["conversations"]:
        del one["kind"]
    assert [one.kind for one in from_json(json.dumps(document), name="f")] == [None, None, None]
    elsewhere = replace(made[1], kind="chat", nodes=dict(made[1].nodes))
    ask(elsewhere, "続き", "答え")
    store.add([replace(made[0], kind="question"), elsewhere])
    assert [one.kind for one in map(store.load, (made[0].id, made[1].id))] == ["chat", "chat"]


def test_a_copy_is_found_again_whatever_its_kind(store: HistoryStore) -> None:
    """Files that were written before kinds were kept, and after, hold the same conversation."""
    original = talk(store, "質問", "question")
    other = Conversation(id=original.id, kind="question")
    other.restore(
        [replace(node, message=replace(node.message, content="別")) for node in original.nodes.values()],
        tip=original.tip,
    )
    assert store.add([other]).copied == 1
    assert store.add([replace(other, kind=None)]).copied == 0


def test_a_damaged_kind_hides_nothing(store: HistoryStore) -> None:
    one = talk(store, "質問", "question")
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE conversations SET kind = x'00ff'")
        connection.commit()
    store.close()
    assert [(found.id, found.kind) for found in store.list(kind="chat")] == [(one.id, None)]
    assert store.load(one.id).nodes == one.nodes

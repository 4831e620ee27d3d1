"""One definition of what a record may hold: what is saved can be read, exported, imported and recovered, and
one damaged record costs nobody the others."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tanuki_cli.conversation import Conversation, Generation, Message, Node, Usage, new_id
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.recovery import read_damaged, recover
from tanuki_cli.history.transfer import export_text, from_json
from tests.support.history_data import talked
from tests.support.program import run

ANY_INTEGER = st.integers(-(10**31), 10**31)
ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True)
ANY_TEXT = st.text(st.characters() | st.sampled_from("\ud800\udfff\0\uffff"), max_size=20)
ANY_TIME = st.sampled_from(
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12))),
        datetime(2026, 2, 28, tzinfo=timezone.utc),
    ]
)
ANY_GENERATION = st.builds(
    Generation,
    model=ANY_TEXT,
    finish_reason=st.sampled_from(["stop", "length", "interrupted"]),
    usage=st.none()
    | st.builds(Usage, prompt_tokens=ANY_INTEGER, completion_tokens=ANY_INTEGER, cached_tokens=ANY_INTEGER),
    seed=st.none() | ANY_INTEGER,
    tokens_per_s=st.none() | ANY_NUMBER,
    token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(generation=ANY_GENERATION, text=ANY_TEXT, title=ANY_TEXT, time=ANY_TIME)
def test_what_the_writer_accepts_every_reader_takes(
    tmp_path: Path, generation: Generation, text: str, title: str, time: datetime
) -> None:
    """Counts of a server, names, texts and times of a file: nothing that is saved is lost later."""
    conversation = Conversation(title=title or "題", created_at=time)
    question = Node(id=new_id(), parent_id=None, message=Message("user", text), created_at=time)
    answer = Node(
        id=new_id(),
        parent_id=question.id,
        message=Message("assistant", text),
        created_at=time,
        generation=generation,
    )
    conversation.restore([question, answer], tip=answer.id)
    path, copy = tmp_path / f"{new_id()}.sqlite3", tmp_path / f"{new_id()}.sqlite3"
    with HistoryStore(path) as store, HistoryStore(copy) as other:
        store.save(conversation)
        saved = store.load(conversation.id)
        exported = export_text([saved], format="json")
        assert from_json(exported, name="x") == [saved]
        other.add(from_json(exported, name="x"))
        assert other.load(conversation.id) == saved
        assert store.list()[0].id == conversation.id
        assert export_text([saved], format="markdown")
        store.close()
        (recovered,) = read_damaged(path).conversations
        assert recovered == saved
        assert saved.nodes[answer.id].message.content == re.sub("[\ud800-\udfff]", "\ufffd", text)


def _damage(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement, values)
        connection.commit()


DAMAGES = {
    "a byte that is no UTF-8": "UPDATE nodes SET content = CAST(x'e38182ff' AS TEXT) WHERE number = 2",
    "a time that is none": "UPDATE nodes SET created_at = 'now' WHERE number = 2",
    "a count as text": "UPDATE nodes SET prompt_tokens = 'many', seed = x'00' WHERE number = 2",
    "a speed that is none": "UPDATE nodes SET tokens_per_s = 'fast' WHERE number = 2",
    "a role that is none": "UPDATE nodes SET role = 'king' WHERE number = 2",
    "a text that is bytes": "UPDATE nodes SET content = x'00ff' WHERE number = 2",
    "a reason that is none": "UPDATE nodes SET finish_reason = 'tired' WHERE number = 2",
    "a parent that is gone": "UPDATE nodes SET parent_id = 'feedfeedfeedfeed' WHERE number = 3",
    "settings that are none": "UPDATE conversations SET settings = '{' WHERE rowid = 1",
    "a tip that is gone": "UPDATE conversations SET tip = 'feedfeedfeedfeed' WHERE rowid = 1",
    "a title that is bytes": "UPDATE conversations SET title = x'ff' WHERE rowid = 1",
    "a time of the list": "UPDATE conversations SET updated_at = x'ff', created_at = '' WHERE rowid = 1",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_one_damaged_record_costs_nobody_the_others(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / "history.sqlite3"
    damaged, whole = talked(3), talked(2, text="無事な返事")
    with HistoryStore(path) as store:
        store.save(damaged)
        store.save(whole)
    _damage(path, DAMAGES[name])
    notices: list[str] = []
    with HistoryStore(path, notify=notices.append) as store:
        assert len(store.list()) == 2
        found = store.load(damaged.id)
        assert len(found.nodes) >= len(damaged.nodes) - 1
        assert store.load(whole.id) == whole
        assert [hit.conversation_id for hit in store.search("無事")] == [whole.id, whole.id]
        assert from_json(export_text([found, whole], format="json"), name="x")[1] == whole
        problems = store.verify()
        found.append(Message("user", "続ける"))
        store.save(found)
    assert (damaged.id in "".join(problems)) or name in {
        "a time that is none",
        "a count as text",
        "a speed that is none",
        "a reason that is none",
        "a title that is bytes",
        "a time of the list",
    }
    for arguments in (["show", damaged.id], ["search", "返事"], ["export", "--all"], ["list"]):
        done = run(tmp_path, "history", *arguments)
        assert done.returncode == 0, done.stderr
        assert "Unexpected" not in done.stderr


HEADERS = {
    "user_version": (60, b"\x7f\xff\xff\xff"),
    "schema format": (44, b"\x00\x00\x00\x09"),
    "write version": (18, b"\x07"),
    "read version": (19, b"\x03"),
    "page size": (16, b"\x02\x00"),
    "page size that is none": (16, b"\x03\x01"),
    "reserved bytes": (20, b"\x50"),
    "magic": (0, b"SQLite formar 3\x00"),
    "text encoding": (56, b"\x00\x00\x00\x03"),
    "payload fraction": (21, b"\x41"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_header_costs_no_text(tmp_path: Path, name: str) -> None:
    """The file is named on the command line, as it lies in its place."""
    path = tmp_path / "data" / "history.sqlite3"
    whole = talked(20, text="長い答え。" * 600)
    with HistoryStore(path) as store:
        store.save(whole)
    offset, value = HEADERS[name]
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    done = run(tmp_path, "history", "recover", str(path))
    assert done.returncode == 0, done.stderr
    with HistoryStore(path) as store:
        assert store.load(whole.id) == whole
        assert store.verify() == []
    (aside,) = path.parent.glob("history.sqlite3.corrupt-*")
    assert aside.read_bytes() == bytes(data)


@pytest.mark.parametrize("name", [name for name in HEADERS if name != "user_version"])
def test_a_damaged_header_is_noticed(tmp_path: Path, name: str) -> None:
    """The next command sets the file aside and says how to get its texts back; nothing is read-only."""
    path = tmp_path / "data" / "history.sqlite3"
    whole = talked()
    with HistoryStore(path) as store:
        store.save(whole)
    offset, value = HEADERS[name]
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    notices: list[str] = []
    with HistoryStore(path, notify=notices.append) as store:
        new = talked(1)
        store.save(new)
        assert store.load(new.id) == new
        assert len(notices) == 1
        recover(store)
        assert store.load(whole.id) == whole


def _exported(tmp_path: Path) -> dict[str, Any]:
    with HistoryStore(tmp_path / "old.sqlite3") as store:
        for conversation in (talked(1), talked(2)):
            store.save(conversation)
        document: dict[str, Any] = json.loads(
            export_text([store.load(one.id) for one in store.list()], format="json")
        )
    return document


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [("temperature", 3.5, 2.0), ("top_k", 2**31, 100_000), ("top_p", 7, 1.0), ("max_new_tokens", 0, 1)],
)
def test_imported_settings_are_brought_into_their_range(
    tmp_path: Path, key: str, value: float, taken: float
) -> None:
    document = _exported(tmp_path)
    document["conversations"][0]["settings"]["sampling"][key] = value
    export = tmp_path / "export.json"
    export.write_text(json.dumps(document), encoding="utf-8")
    done = run(tmp_path, "history", "import", str(export))
    assert done.returncode == 0, done.stderr
    assert ".conversations[0].settings" in done.stderr
    id_ = document["conversations"][0]["id"]
    with HistoryStore(tmp_path / "data" / "history.sqlite3") as store:
        assert getattr(store.load(id_).settings.sampling, key) == taken
    again = run(tmp_path, "ask", "-q", "-m", "mame", "--resume", id_, "--max-new-tokens", "3", "あなたは誰?")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [("id", "x"), ("created_at", "yesterday"), ("nodes", {}), ("nodes", [{}]), ("tip", "0" * 16)],
)
def test_a_conversation_that_cannot_be_imported_does_not_keep_the_others_out(
    tmp_path: Path, key: str, value: object
) -> None:
    document = _exported(tmp_path)
    document["conversations"][0][key] = value
    told: list[str] = []
    (kept,) = from_json(json.dumps(document), name="x", report=told.append)
    assert kept.id == document["conversations"][1]["id"]
    assert len(told) == 1
    document["conversations"].pop()
    with pytest.raises(InputError, match=r"x cannot be imported: \.conversations\[0\]"):
        from_json(json.dumps(document), name="x")


def test_endless_input_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "history", "import", "/dev/zero")
    assert done.returncode == 2
    assert "too large" in done.stderr


def test_verify_says_whether_the_history_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "data" / "history.sqlite3"
    with HistoryStore(path) as store:
        store.save(talked())
    assert "in order" in run(tmp_path, "history", "verify").stderr
    _damage(path, DAMAGES["a byte that is no UTF-8"])
    done = run(tmp_path, "history", "verify")
    assert done.returncode == HistoryError.exit_code
    assert "is not UTF-8" in done.stdout
    assert "history recover" in done.stderr

"""Files of every earlier version become files of this one; files of a later version stay as they are."""

import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, ConversationSettings, Generation, Message, Node, Usage
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.recovery import recover
from tanuki_cli.history.rows import conversation_values
from tanuki_cli.history.schema import SCHEMA_VERSION
from tanuki_cli.sampling import SamplingOptions
from tests.support.history_data import full_disk

# What each released version left on disk, word for word. Never edited; a new schema adds its own.
FROZEN = {
    1: """
    PRAGMA journal_mode = WAL;
    CREATE TABLE conversations (
        id TEXT NOT NULL PRIMARY KEY,
        title TEXT NOT NULL,
        system TEXT,
        settings TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        tip TEXT,
        FOREIGN KEY (id, tip) REFERENCES nodes (conversation_id, id) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE TABLE nodes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        id TEXT NOT NULL,
        parent_id TEXT,
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL,
        created_at TEXT NOT NULL,
        model TEXT,
        finish_reason TEXT CHECK (finish_reason IN ('stop', 'length', 'interrupted')),
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        cached_tokens INTEGER,
        seed INTEGER,
        tokens_per_s REAL,
        writer TEXT,
        UNIQUE (conversation_id, id),
        FOREIGN KEY (conversation_id, parent_id) REFERENCES nodes (conversation_id, id)
    );
    CREATE INDEX nodes_by_parent ON nodes (conversation_id, parent_id);
    CREATE INDEX conversations_by_update ON conversations (updated_at);
    INSERT INTO conversations VALUES (
        '00000000000000aa', 'ガソリンの値段', NULL,
        '{"context_length": 2048, "model": "mame", "persona": null, "sampling": {"max_new_tokens": 64,
          "min_p": 0.0, "repeat_penalty": 1.0, "seed": null, "stop": ["終"], "temperature": 0.0,
          "top_k": 0, "top_p": 1.0}}',
        '2026-01-31T03:04:05.678901+00:00', '2026-01-31T03:04:07.000000+00:00', '0000000000000003'
    );
    INSERT INTO nodes VALUES (1, '00000000000000aa', '0000000000000001', NULL, 'user',
        'ｶﾞｿﾘﾝはいくら？', '2026-01-31T03:04:05.700000+00:00',
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO nodes VALUES (2, '00000000000000aa', '0000000000000002', '0000000000000001', 'assistant',
        '170 円です。', '2026-01-31T03:04:06.000000+00:00',
        'mame', 'stop', 12, 5, 3, 42, 10.5, NULL);
    INSERT INTO nodes VALUES (3, '00000000000000aa', '0000000000000003', '0000000000000001', 'assistant',
        '途中', '2026-01-31T03:04:07.000000+00:00',
        'mame', NULL, NULL, NULL, NULL, NULL, NULL, '1@0');
    """,
}
FROZEN[2] = f"""
    {FROZEN[1]}
    CREATE TABLE search_texts (
        number INTEGER PRIMARY KEY REFERENCES nodes (number) ON DELETE CASCADE,
        folded TEXT NOT NULL
    );
    CREATE VIRTUAL TABLE trigrams USING fts5(
        folded, content='search_texts', content_rowid='number', detail=none, columnsize=0,
        tokenize='trigram case_sensitive 1'
    );
    CREATE VIRTUAL TABLE bigrams USING fts5(
        pairs, content='', detail=none, columnsize=0, prefix='1', tokenize='ascii'
    );
    INSERT INTO search_texts VALUES (1, 'ガソリンはいくら?'), (2, '170 円です。'), (3, '途中');
    INSERT INTO trigrams (rowid, folded) SELECT number, folded FROM search_texts;
    INSERT INTO bigrams (rowid, pairs) VALUES
        (1, 'ガソ ソリ リン ンは はい いく くら ら\U000f003f \U000f003f\U000f0080'),
        (2, '\U000f0031\U000f0037 \U000f0037\U000f0030 \U000f0030\U000f0020 \U000f0020円 '
            || '円で です す。 。\U000f0080'),
        (3, '途中 中\U000f0080');
    """
FROZEN[3] = f"""
    {FROZEN[2]}
    ALTER TABLE nodes ADD COLUMN token_ids TEXT;
    """
# How version 3 saves a conversation: a chat that was open when the file was brought up still does.
SAVE_OF_3 = """
    INSERT INTO conversations (id, title, system, settings, created_at, updated_at, tip)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET system = excluded.system, settings = excluded.settings,
        updated_at = max(updated_at, excluded.updated_at), tip = excluded.tip
"""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-31T03:04:{text}").replace(tzinfo=timezone.utc)


def expected() -> Conversation:
    conversation = Conversation(
        id="00000000000000aa",
        title="ガソリンの値段",
        kind=None,
        settings=ConversationSettings(
            model="mame",
            sampling=SamplingOptions(temperature=0.0, max_new_tokens=64, stop=("終",)),
            context_length=2048,
        ),
        created_at=_time("05.678901"),
    )
    question = Node(
        id="0000000000000001",
        parent_id=None,
        message=Message("user", "ｶﾞｿﾘﾝはいくら？"),
        created_at=_time("05.700000"),
    )
    answer = Node(
        id="0000000000000002",
        parent_id=question.id,
        message=Message("assistant", "170 円です。"),
        created_at=_time("06.000000"),
        generation=Generation(
            model="mame",
            finish_reason="stop",
            usage=Usage(prompt_tokens=12, completion_tokens=5, cached_tokens=3),
            seed=42,
            tokens_per_s=10.5,
        ),
    )
    broken_off = Node(
        id="0000000000000003",
        parent_id=question.id,
        message=Message("assistant", "途中"),
        created_at=_time("07.000000"),
        generation=Generation(model="mame", finish_reason="interrupted"),
    )
    conversation.restore([question, answer, broken_off], tip=broken_off.id)
    return conversation


def make(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FROZEN[version])
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def schema_of(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name")
        return [(name, " ".join((sql or "").split())) for name, sql in rows]


def test_every_earlier_version_is_tested() -> None:
    assert sorted(FROZEN) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", FROZEN)
def test_an_earlier_file_is_brought_up(tmp_path: Path, version: int) -> None:
    path, new = tmp_path / "history.sqlite3", tmp_path / "new.sqlite3"
    make(path, version)
    with HistoryStore(path) as store:
        assert store.load("00") == expected()
        assert [hit.content for hit in store.search("ガソリン")] == ["ｶﾞｿﾘﾝはいくら？"]
        assert [hit.content for hit in store.search("円")] == ["170 円です。"]
        conversation = expected()
        conversation.append(Message("user", "続き"))
        store.save(conversation)
        assert store.load("00") == conversation
        assert store.verify() == []
    with HistoryStore(new) as store:
        store.save(expected())
    assert version_of(path) == SCHEMA_VERSION
    assert schema_of(path) == schema_of(new)


@pytest.mark.parametrize("version", FROZEN)
def test_an_earlier_file_is_recovered_before_and_after_it_was_brought_up(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "history.sqlite3"
    make(path, version)
    new = Conversation(kind="question")
    new.append(Message("user", "新しい質問"))
    with HistoryStore(tmp_path / "other.sqlite3") as other:
        assert recover(other, path).recovered.messages == len(expected().nodes)
        assert other.load("00") == expected()
        with HistoryStore(path) as store:
            store.save(new)
        recover(other, path)
        assert other.load(new.id) == new
    with HistoryStore(tmp_path / "third.sqlite3") as third:
        assert recover(third, path).imported.added == 2
        assert third.load("00") == expected()


def test_an_earlier_program_goes_on_in_a_file_that_was_brought_up_under_it(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    make(path, 3)
    question = Conversation(kind="question")
    question.append(Message("user", "質問"))
    with HistoryStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        assert earlier.execute("SELECT count(*) FROM conversations").fetchone() == (1,)
        store.save(question)
        new = Conversation()
        for conversation in (expected(), question, new):
            values = conversation_values(replace(conversation, tip=None), conversation.nodes.values())
            earlier.execute(SAVE_OF_3, values[:-1])
        assert {one.id: one.kind for one in store.list()} == {
            expected().id: None,
            question.id: "question",
            new.id: None,
        }
        assert store.verify() == []


@pytest.mark.parametrize("version", FROZEN)
def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.sqlite3"
    make(path, version)
    schema = schema_of(path)
    with HistoryStore(path) as store:
        with full_disk(-path.stat().st_size + 4096, path), pytest.raises(HistoryError, match="full"):
            store.load("00")
        assert (version_of(path), schema_of(path)) == (version, schema)
        assert store.load("00") == expected()


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 2**31 - 1])
def test_a_later_file_is_refused_and_not_touched(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.sqlite3"
    with HistoryStore(path) as store:
        store.save(expected())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with HistoryStore(path) as store:
        conversation = Conversation()
        conversation.append(Message("user", "質問"))
        for attempt in (
            lambda: store.list(),
            lambda: store.load("00"),
            lambda: store.search("円"),
            lambda: store.save(conversation),
            lambda: store.delete("00000000000000aa"),
        ):
            with pytest.raises(HistoryError, match="newer version") as caught:
                attempt()
            assert caught.value.hint is not None
            assert "Update tanuki: tanuki help install" in caught.value.hint
            assert f"tanuki history recover {path}" in caught.value.hint
        other = tmp_path / "other.sqlite3"
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["history.sqlite3"]
    # The number may be all that is damaged: what is asked for by name is read as far as it can be.
    with HistoryStore(other) as store:
        assert recover(store, path).recovered.messages == len(expected().nodes)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_history(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.touch()
    with HistoryStore(path) as store:
        assert store.list() == []
        store.save(expected())
        assert store.load("00") == expected()

"""The tables, and how a file of an earlier version becomes one of this version.

``PRAGMA user_version`` is the number of migrations a file has been through. A migration that was
released is never edited: its result is on users' disks. Nothing here needs more than SQLite 3.34,
which brought the trigram tokenizer.
"""

import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tanuki_cli.errors import HistoryError, update_hint
from tanuki_cli.history.search import CREATE_INDEX, index_text
from tanuki_cli.i18n import _

_CREATE_TABLES: Final = (
    """
    CREATE TABLE conversations (
        id TEXT NOT NULL PRIMARY KEY,
        title TEXT NOT NULL,
        system TEXT,
        settings TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        tip TEXT,
        FOREIGN KEY (id, tip) REFERENCES nodes (conversation_id, id) DEFERRABLE INITIALLY DEFERRED
    )
    """,
    # A parent is a node of the same conversation, and one that was there before: the foreign key is
    # checked at once, and numbers only grow.
    """
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
    )
    """,
    "CREATE INDEX nodes_by_parent ON nodes (conversation_id, parent_id)",
    "CREATE INDEX conversations_by_update ON conversations (updated_at)",
)


def _to_1(connection: sqlite3.Connection) -> None:
    """Conversations and their trees."""
    for statement in _CREATE_TABLES:
        connection.execute(statement)


def _to_2(connection: sqlite3.Connection) -> None:
    """The search index, with what was saved before it."""
    for statement in CREATE_INDEX:
        connection.execute(statement)
    for number, content in connection.execute("SELECT number, content FROM nodes").fetchall():
        index_text(connection, number, content)


def _to_3(connection: sqlite3.Connection) -> None:
    """The ids of answers that can go on, as a JSON array."""
    connection.execute("ALTER TABLE nodes ADD COLUMN token_ids TEXT")


def _to_4(connection: sqlite3.Connection) -> None:
    """Which conversations are questions of ``ask``; nothing is known of those from before."""
    connection.execute("ALTER TABLE conversations ADD COLUMN kind TEXT CHECK (kind IN ('chat', 'question'))")


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (_to_1, _to_2, _to_3, _to_4)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the open file; 0 for one without tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(version: int, path: Path) -> None:
    """Raise HistoryError for a file of a later version: what it means is not known here."""
    if version > SCHEMA_VERSION:
        raise HistoryError(
            _("{path} was written by a newer version of tanuki and was left as it is.").format(path=path),
            hint=_("{update}, or, if it is only damaged: {command}").format(
                update=update_hint(), command=f"tanuki history recover {shlex.quote(str(path))}"
            ),
        )


def migrate(connection: sqlite3.Connection, *, to: int = SCHEMA_VERSION) -> None:
    """Bring the file up to version ``to``, inside the caller's write transaction."""
    for version in range(schema_version(connection), to):
        MIGRATIONS[version](connection)
        connection.execute(f"PRAGMA user_version = {version + 1}")

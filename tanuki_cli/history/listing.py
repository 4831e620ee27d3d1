"""The list of conversations, and which of them a text may mean."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tanuki_cli.history.rows import read_id, read_text, read_time
from tanuki_cli.history.search import search, search_terms
from tanuki_cli.text.folding import fold

_MOST_HITS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """One line of the list; ``messages`` counts the whole tree, ``model`` wrote the last answer."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    messages: int
    model: str | None


def summaries(connection: sqlite3.Connection, *, limit: int | None = None) -> list[ConversationSummary]:
    """The newest ``limit`` conversations (None: all), last talked in first."""
    found = connection.execute(
        """
        SELECT id, title, created_at, updated_at,
            (SELECT count(*) FROM nodes WHERE conversation_id = conversations.id) AS messages,
            (SELECT model FROM nodes WHERE conversation_id = conversations.id AND model IS NOT NULL
                ORDER BY number DESC LIMIT 1) AS model
        FROM conversations ORDER BY updated_at DESC, rowid DESC LIMIT ?
        """,
        (-1 if limit is None else limit,),
    )
    return [
        ConversationSummary(
            id=read_id(row["id"]),
            title=read_text(row["title"]),
            created_at=read_time(row["created_at"]),
            updated_at=read_time(row["updated_at"]),
            messages=row["messages"],
            model=None if row["model"] is None else read_text(row["model"]),
        )
        for row in found
    ]


def containing(connection: sqlite3.Connection, text: str) -> list[ConversationSummary]:
    """The conversations with all words of ``text`` in their title or in one message."""
    terms = search_terms(text)
    if not terms:
        return []
    ids = {hit.conversation_id for hit in search(connection, text, limit=_MOST_HITS)}
    return [
        one
        for one in summaries(connection)
        if one.id in ids or all(term in fold(one.title) for term in terms)
    ]

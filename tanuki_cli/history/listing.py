"""The list of conversations, and which of them a text may mean."""

import sqlite3
from datetime import datetime
from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import ConversationKind
from tanuki_cli.history.rows import IS_QUESTION, read_id, read_kind, read_text, read_time
from tanuki_cli.history.search import search, search_terms
from tanuki_cli.i18n import _
from tanuki_cli.text.folding import fold

_NUMBERED: Final = f"ORDER BY {IS_QUESTION}, updated_at DESC, rowid DESC"
"""The order in which conversations are numbered."""
_MOST_HITS: Final = 500


class ConversationSummary(Struct, frozen=True, kw_only=True):
    """One line of the list; ``messages`` counts the whole tree, ``model`` wrote the last answer.

    ``number`` counts the chats, last talked in first, then the questions likewise.
    """

    id: str
    number: int
    kind: ConversationKind | None
    title: str
    created_at: datetime
    updated_at: datetime
    messages: int
    model: str | None

    @property
    def is_question(self) -> bool:
        """Whether it stands among the questions; one of which nothing is known is a chat to its reader."""
        return self.kind == "question"

    @property
    def label(self) -> str:
        """The title where chats and questions are offered in one list."""
        return _("Question: {title}").format(title=self.title) if self.is_question else self.title


def summaries(
    connection: sqlite3.Connection, *, limit: int | None = None, kind: ConversationKind | None = None
) -> list[ConversationSummary]:
    """The newest ``limit`` conversations (None: all) of a kind (None: of both), last talked in first."""
    found = connection.execute(
        f"""
        WITH numbers AS (
            SELECT rowid AS of_row, row_number() OVER ({_NUMBERED}) AS number FROM conversations
        )
        SELECT id, title, kind, number, created_at, updated_at,
            (SELECT count(*) FROM nodes WHERE conversation_id = conversations.id) AS messages,
            (SELECT model FROM nodes WHERE conversation_id = conversations.id AND model IS NOT NULL
                ORDER BY number DESC LIMIT 1) AS model
        FROM conversations JOIN numbers ON of_row = conversations.rowid
        WHERE ?1 IS NULL OR {IS_QUESTION} = (?1 = 'question')
        ORDER BY updated_at DESC, conversations.rowid DESC LIMIT ?2
        """,
        (kind, -1 if limit is None else limit),
    )
    return [
        ConversationSummary(
            id=read_id(row["id"]),
            title=read_text(row["title"]),
            kind=read_kind(row["kind"]),
            number=row["number"],
            created_at=read_time(row["created_at"]),
            updated_at=read_time(row["updated_at"]),
            messages=row["messages"],
            model=None if row["model"] is None else read_text(row["model"]),
        )
        for row in found
    ]


def id_of_number(connection: sqlite3.Connection, number: int) -> str | None:
    """The id of the conversation with this number, or None."""
    query = f"SELECT id FROM conversations {_NUMBERED} LIMIT 1 OFFSET ?"
    row = connection.execute(query, (number - 1,)).fetchone()
    return None if row is None else read_id(row["id"])


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

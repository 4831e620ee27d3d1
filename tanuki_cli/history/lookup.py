"""Which conversation is meant: by its id, by the beginning of one, by an id that stands for a damaged one."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from tanuki_cli.conversation import Conversation
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import rows
from tanuki_cli.history.listing import ConversationSummary, summaries
from tanuki_cli.i18n import _

MIN_ID_DIGITS: Final = 6
MAX_NUMBER: Final = 999
"""A number has fewer digits than anybody types of an id."""


class UnknownConversationError(HistoryError):
    """No conversation is meant by an id prefix or a text."""


class AmbiguousIdError(HistoryError):
    """An id prefix or a text that fits several conversations."""

    def __init__(self, message: str, *, hint: str | None, candidates: list[ConversationSummary]) -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


def find_conversation(
    connection: sqlite3.Connection, id_prefix: str, report: Callable[[str], None]
) -> Conversation | None:
    """The one conversation whose id begins with ``id_prefix``; None if there is none.

    ``report`` hears of each part of it that cannot be read. Raises AmbiguousIdError if there are several.
    """
    matches = connection.execute(
        "SELECT rowid, * FROM conversations WHERE substr(id, 1, length(?1)) = ?1", (id_prefix,)
    ).fetchall()
    if not matches:
        rowids = [rowid for rowid, id_ in _replaced_ids(connection) if id_.startswith(id_prefix)]
        matches = [_row_of(connection, rowid) for rowid in rowids]
    if len(matches) > 1:
        raise ambiguous(id_prefix, [one for one in summaries(connection) if one.id.startswith(id_prefix)])
    if not matches:
        return None
    nodes = connection.execute(
        "SELECT * FROM nodes WHERE conversation_id = (SELECT id FROM conversations WHERE rowid = ?) "
        "ORDER BY number",
        (matches[0]["rowid"],),
    )
    return rows.conversation_from_row(matches[0], nodes, report=report)


def _row_of(connection: sqlite3.Connection, rowid: int) -> sqlite3.Row:
    row: sqlite3.Row = connection.execute(
        "SELECT rowid, * FROM conversations WHERE rowid = ?", (rowid,)
    ).fetchone()
    return row


def rowid_of(connection: sqlite3.Connection, conversation_id: str) -> int | None:
    """The row of a conversation by its id, or by the id that was given to it because its own is damaged."""
    row = connection.execute("SELECT rowid FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
    if row is not None:
        return int(row["rowid"])
    return next((rowid for rowid, id_ in _replaced_ids(connection) if id_ == conversation_id), None)


def _replaced_ids(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """The rows whose ids are damaged, with the ids that stand in their place."""
    for row in connection.execute("SELECT rowid, id FROM conversations").fetchall():
        if rows.read_id(row["id"]) != row["id"]:
            yield row["rowid"], rows.read_id(row["id"])


def ambiguous(text: str, candidates: list[ConversationSummary]) -> AmbiguousIdError:
    """The error that names a few of the ``candidates``."""
    shown = " / ".join(f"{one.id[:MIN_ID_DIGITS]} {one.title}".strip() for one in candidates[:3])
    return AmbiguousIdError(
        _("{text!r} fits {count} conversations, for example: {candidates}").format(
            text=text, count=len(candidates), candidates=shown
        ),
        hint="tanuki history list",
        candidates=candidates,
    )

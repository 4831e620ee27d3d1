"""Proving again, from the file alone, what the program relies on."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from tanuki_cli.history import rows
from tanuki_cli.history.json_place import is_id
from tanuki_cli.history.search import bigram_text

_CHECKS: Final = {
    "a message stands before the one it answers": """
        SELECT child.id FROM nodes AS child JOIN nodes AS parent
            ON parent.conversation_id = child.conversation_id AND parent.id = child.parent_id
        WHERE parent.number >= child.number
    """,
    "a tip is not in its conversation": """
        SELECT conversations.id FROM conversations LEFT JOIN nodes
            ON nodes.conversation_id = conversations.id AND nodes.id = conversations.tip
        WHERE conversations.tip IS NOT NULL AND nodes.id IS NULL
    """,
    "a message is not searchable": """
        SELECT nodes.id FROM nodes LEFT JOIN search_texts USING (number) WHERE folded IS NULL
    """,
    "a searchable text has no message": """
        SELECT search_texts.number FROM search_texts LEFT JOIN nodes USING (number) WHERE nodes.id IS NULL
    """,
}


def verify(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file, in English, for reports; nothing for a sound one.

    Reads every page and every indexed token: seconds for a large history.
    """
    problems = list(_unreadable(connection))
    problems += [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for row in connection.execute("PRAGMA foreign_key_check"):
        problems.append(f"{row[0]} row {row[1]} refers to a {row[2]} row that is not there")
    for problem, query in _CHECKS.items():
        problems += [f"{problem}: {row[0]}" for row in connection.execute(query)]
    tokens: dict[str, Callable[[str], set[str]]] = {
        "trigrams": lambda folded: {folded[i : i + 3] for i in range(len(folded) - 2)},
        "bigrams": lambda folded: set(bigram_text(folded).split(" ")),
    }
    for index, tokens_of in tokens.items():
        problems += _compare_index(connection, index, tokens_of)
    return problems


def _unreadable(connection: sqlite3.Connection) -> Iterator[str]:
    """What of the conversations cannot be read as it was written, by their ids."""
    for conversation in connection.execute("SELECT rowid, * FROM conversations").fetchall():
        problems: list[str] = []
        nodes = connection.execute(
            "SELECT *, CAST(content AS BLOB) AS stored FROM nodes "
            "WHERE conversation_id = (SELECT id FROM conversations WHERE rowid = ?) ORDER BY number",
            (conversation["rowid"],),
        ).fetchall()
        rows.conversation_from_row(conversation, nodes, report=problems.append)
        problems += [
            f"message {row['id']}: its text is not UTF-8" for row in nodes if not _is_text(row["stored"])
        ]
        id_ = rows.read_id(conversation["id"])
        ids = [conversation["id"], *(row["id"] for row in nodes)]
        problems += [f"{value!r} is no id" for value in ids if not is_id(value)]
        yield from (f"conversation {id_}: {problem}" for problem in problems)


def _is_text(stored: bytes) -> bool:
    try:
        stored.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _compare_index(
    connection: sqlite3.Connection, index: str, tokens_of: Callable[[str], set[str]]
) -> Iterator[str]:
    """The messages whose tokens in the full-text ``index`` are not those of their text."""
    connection.execute(f"CREATE VIRTUAL TABLE temp.{index}_tokens USING fts5vocab(main, {index}, instance)")
    indexed: dict[int, set[str]] = {}
    for term, number in connection.execute(f"SELECT term, doc FROM temp.{index}_tokens"):
        indexed.setdefault(number, set()).add(term)
    connection.execute(f"DROP TABLE temp.{index}_tokens")
    for number, folded in connection.execute("SELECT number, folded FROM search_texts"):
        if indexed.pop(number, set()) != tokens_of(rows.read_text(folded)) - {""}:
            yield f"the index {index} differs from the text of message number {number}"
    for number in indexed:
        yield f"the index {index} has a message number {number} that is not there"

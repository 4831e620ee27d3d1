"""Substring search over every message, by trigrams and, for one and two characters, by bigrams.

``search_texts`` holds the folded text of every message. ``trigrams`` indexes it with SQLite's own
tokenizer, which cannot find less than three characters. ``bigrams`` holds every pair of neighbours
as one token; its prefix index of length 1 finds single characters. Both keep only which message has
which token (detail=none): a message that has all of a term's tokens is a candidate, and ``instr`` on
the folded text decides. Results stream out of the index newest first, so a LIMIT stops early.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import Role
from tanuki_cli.history.rows import read_id, read_text, read_time
from tanuki_cli.text.folding import FoldedText, fold

CREATE_INDEX: Final = (
    """
    CREATE TABLE search_texts (
        number INTEGER PRIMARY KEY REFERENCES nodes (number) ON DELETE CASCADE,
        folded TEXT NOT NULL
    )
    """,
    """
    CREATE VIRTUAL TABLE trigrams USING fts5(
        folded, content='search_texts', content_rowid='number', detail=none, columnsize=0,
        tokenize='trigram case_sensitive 1'
    )
    """,
    """
    CREATE VIRTUAL TABLE bigrams USING fts5(
        pairs, content='', detail=none, columnsize=0, prefix='1', tokenize='ascii'
    )
    """,
)
# The tokenizer 'ascii' cuts at ASCII signs and spaces, and at nothing else: they move out of its way.
_BEYOND_ASCII: Final = {code: 0xF0000 + code for code in range(128)}
_END: Final = chr(0xF0080)
# More tokens would not narrow the candidates any further.
_MAX_TOKENS: Final = 64


class SearchHit(Struct, frozen=True, kw_only=True):
    """A message with the text that was searched for.

    ``highlights`` are start and end offsets into ``content``, in order, without overlap.
    ``on_path`` tells whether the message is on the way to its conversation's tip, and not on a
    branch that was left.
    """

    conversation_id: str
    conversation_title: str
    node_id: str
    role: Role
    created_at: datetime
    content: str
    highlights: tuple[tuple[int, int], ...]
    on_path: bool


def index_node(connection: sqlite3.Connection, conversation_id: str, node_id: str) -> None:
    """Make the saved content of a node searchable, in place of what was indexed for it before."""
    row = connection.execute(
        "SELECT number, content FROM nodes WHERE conversation_id = ? AND id = ?", (conversation_id, node_id)
    ).fetchone()
    _forget(connection, "number = ?", row["number"])
    index_text(connection, row["number"], row["content"])


def index_text(connection: sqlite3.Connection, number: int, content: str) -> None:
    """Make ``content`` searchable as that of the node ``number``, which is not indexed yet."""
    folded = fold(content)
    connection.execute("INSERT INTO search_texts (number, folded) VALUES (?, ?)", (number, folded))
    connection.execute("INSERT INTO trigrams (rowid, folded) VALUES (?, ?)", (number, folded))
    connection.execute("INSERT INTO bigrams (rowid, pairs) VALUES (?, ?)", (number, bigram_text(folded)))


def forget_conversation(connection: sqlite3.Connection, rowid: int | None) -> None:
    """Take the conversation of a row out of the index, before its rows are deleted."""
    messages = (
        "SELECT number FROM nodes WHERE conversation_id = (SELECT id FROM conversations WHERE rowid = ?)"
    )
    _forget(connection, f"number IN ({messages})", rowid)


def drop_forgotten(connection: sqlite3.Connection) -> None:
    """Write the indexes anew: until then they keep the pieces of a forgotten text, marked as deleted."""
    for index in ("trigrams", "bigrams"):
        connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")


def _forget(connection: sqlite3.Connection, condition: str, value: int | None) -> None:
    rows = connection.execute(f"SELECT number, folded FROM search_texts WHERE {condition}", (value,))
    for number, stored in rows.fetchall():
        folded = read_text(stored)
        connection.execute(
            "INSERT INTO trigrams (trigrams, rowid, folded) VALUES ('delete', ?, ?)", (number, folded)
        )
        connection.execute(
            "INSERT INTO bigrams (bigrams, rowid, pairs) VALUES ('delete', ?, ?)",
            (number, bigram_text(folded)),
        )
        connection.execute("DELETE FROM search_texts WHERE number = ?", (number,))


def bigram_text(folded: str) -> str:
    """The tokens of a folded text: each pair of neighbours once, the last character with an end mark."""
    shifted = folded.translate(_BEYOND_ASCII) + _END
    pairs = (shifted[index : index + 2] for index in range(len(shifted) - 1))
    return " ".join(dict.fromkeys(pairs))


def search_terms(text: str) -> list[str]:
    """What a message must contain: the words of ``text``, folded; in any order, anywhere."""
    return list(dict.fromkeys(fold(text).split()))


def search(connection: sqlite3.Connection, text: str, *, limit: int) -> list[SearchHit]:
    """The messages that contain every word of ``text``, newest first, at most ``limit``."""
    terms = search_terms(text)
    if not terms:
        return []
    query, parameters = search_query(terms, limit=limit)
    paths: dict[str, set[str]] = {}
    hits = []
    for row in connection.execute(query, parameters).fetchall():
        id_ = row["conversation_id"]
        if id_ not in paths:
            paths[id_] = _path_ids(connection, id_)
        hits.append(
            SearchHit(
                conversation_id=read_id(id_),
                conversation_title=read_text(row["title"]),
                node_id=read_id(row["id"]),
                role=row["role"],
                created_at=read_time(row["created_at"]),
                content=read_text(row["content"]),
                highlights=highlights(read_text(row["content"]), terms),
                on_path=row["id"] in paths[id_],
            )
        )
    return hits


def search_query(terms: list[str], *, limit: int) -> tuple[str, tuple[str | int, ...]]:
    """The SQL of a search and its parameters.

    One short word sends all of them to the bigrams: two indexes cannot be walked side by side.
    """
    if min(map(len, terms)) >= 3:
        index, expression = "trigrams", _match(_quoted(term, 3) for term in terms)
    else:
        index, expression = "bigrams", _match(map(_bigram_tokens, terms))
    contained = " AND ".join(["instr(search_texts.folded, ?) > 0"] * len(terms))
    query = f"""
        SELECT nodes.conversation_id, nodes.id, role, content, nodes.created_at, title
        FROM {index}
        JOIN search_texts ON search_texts.number = {index}.rowid
        JOIN nodes ON nodes.number = {index}.rowid
        JOIN conversations ON conversations.id = nodes.conversation_id
        WHERE {index} MATCH ? AND {contained}
        ORDER BY {index}.rowid DESC LIMIT ?
    """
    return query, (expression, *terms, limit)


def _match(tokens: Iterable[Iterable[str]]) -> str:
    distinct = list(dict.fromkeys(token for group in tokens for token in group))
    return " AND ".join(distinct[:_MAX_TOKENS])


def _quoted(text: str, length: int) -> Iterator[str]:
    for index in range(len(text) - length + 1):
        token = text[index : index + length].replace('"', '""')
        yield f'"{token}"'


def _bigram_tokens(term: str) -> Iterator[str]:
    shifted = term.translate(_BEYOND_ASCII)
    return iter([f'"{shifted}"*']) if len(shifted) == 1 else _quoted(shifted, 2)


def _path_ids(connection: sqlite3.Connection, conversation_id: str) -> set[str]:
    """The ids from the first message to the tip."""
    rows = connection.execute(
        """
        WITH RECURSIVE path (id) AS (
            SELECT tip FROM conversations WHERE id = ?1
            UNION
            SELECT parent_id FROM nodes JOIN path ON nodes.conversation_id = ?1 AND nodes.id = path.id
        )
        SELECT id FROM path WHERE id IS NOT NULL
        """,
        (conversation_id,),
    )
    return {row["id"] for row in rows}


def highlights(content: str, terms: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Where the folded ``terms`` stand in ``content``; what overlaps or touches becomes one range."""
    folded = FoldedText.of(content)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(place for term in terms for place in folded.find_all(term)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def excerpt(hit: SearchHit, *, length: int) -> tuple[str, tuple[tuple[int, int], ...]]:
    """About ``length`` characters around the first highlight, on one line, and the highlights in them."""
    first = hit.highlights[0][0] if hit.highlights else 0
    start = max(0, min(first - length // 4, len(hit.content) - length))
    end = min(len(hit.content), start + length)
    head, tail = "…" if start else "", "…" if end < len(hit.content) else ""
    line = "".join(" " if char.isspace() else char for char in hit.content[start:end])
    shift = len(head) - start
    inside = tuple(
        (max(a, start) + shift, min(b, end) + shift) for a, b in hit.highlights if b > start and a < end
    )
    return head + line + tail, inside

"""Adding conversations from a file to the history: a union, in which nothing is overwritten."""

import hashlib
import sqlite3
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, Node
from tanuki_cli.history import rows
from tanuki_cli.history.search import index_node
from tanuki_cli.history.transfer import conversation_to_json, document_text


class ImportReport(Struct, frozen=True, kw_only=True):
    """What an import did: conversations that are new, that got more messages, that were there whole.

    ``copied`` ones have an id that belongs to a conversation with other texts, and got a new id.
    ``messages`` counts the messages written.
    """

    added: int = 0
    extended: int = 0
    unchanged: int = 0
    copied: int = 0
    messages: int = 0


def merge(connection: sqlite3.Connection, conversations: Iterable[Conversation]) -> ImportReport:
    """Write what is not there yet, inside the caller's transaction. Doing it again changes nothing."""
    added = extended = unchanged = copied = messages = 0
    for conversation in conversations:
        saved = _saved_nodes(connection, conversation.id)
        copy = saved is not None and _differs(conversation, saved)
        if copy:
            conversation = replace(conversation, id=_copy_id(conversation))
            saved = _saved_nodes(connection, conversation.id)
        missing = [node for node in conversation.nodes.values() if node.id not in (saved or {})]
        if saved is None:
            connection.execute(
                rows.INSERT_OR_UPDATE_CONVERSATION, rows.conversation_values(conversation, missing)
            )
        insert_nodes(connection, conversation.id, missing)
        if missing and conversation.kind == "chat":  # a question that was gone on with elsewhere
            connection.execute("UPDATE conversations SET kind = 'chat' WHERE id = ?", (conversation.id,))
        messages += len(missing)
        copied += copy and saved is None
        added += not copy and saved is None
        extended += saved is not None and bool(missing)
        unchanged += saved is not None and not missing
    return ImportReport(added=added, extended=extended, unchanged=unchanged, copied=copied, messages=messages)


def insert_nodes(connection: sqlite3.Connection, conversation_id: str, nodes: Iterable[Node]) -> None:
    """Insert nodes, parents first, and make them searchable."""
    for node in nodes:
        connection.execute(rows.INSERT_NODE, rows.node_values(conversation_id, _settled(node)))
        index_node(connection, conversation_id, node.id)


def _settled(node: Node) -> Node:
    """An answer that was unfinished when its file was written will not go on here."""
    if node.generation is None or node.generation.finish_reason is not None:
        return node
    return replace(node, generation=replace(node.generation, finish_reason="interrupted"))


def _saved_nodes(connection: sqlite3.Connection, conversation_id: str) -> dict[str, sqlite3.Row] | None:
    """The rows of a conversation by id; None if it is not there."""
    if not connection.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation_id,)).fetchone():
        return None
    query = "SELECT id, parent_id, role, content FROM nodes WHERE conversation_id = ?"
    return {row["id"]: row for row in connection.execute(query, (conversation_id,))}


def _differs(conversation: Conversation, saved: dict[str, sqlite3.Row]) -> bool:
    """Whether a node of one id is not the same message in both."""
    return any(
        (node.parent_id, node.message.role, rows.storable(node.message.content))
        != (saved[node.id]["parent_id"], saved[node.id]["role"], saved[node.id]["content"])
        for node in conversation.nodes.values()
        if node.id in saved
    )


def _copy_id(conversation: Conversation) -> str:
    """An id that depends on the content only, so that a second import finds the first one's copy."""
    content = {key: value for key, value in conversation_to_json(conversation).items() if key != "kind"}
    return hashlib.sha256(document_text([content]).encode("utf-8", "surrogatepass")).hexdigest()[:16]

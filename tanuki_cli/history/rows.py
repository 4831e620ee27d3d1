"""Conversations and nodes as rows, and back."""

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Final, get_args

from msgspec.structs import replace

from tanuki_cli.conversation import (
    Conversation,
    ConversationKind,
    ConversationSettings,
    FinishReason,
    Generation,
    Message,
    Node,
    Role,
    Usage,
)
from tanuki_cli.history.json_place import MAX_INTEGER, Place, is_id
from tanuki_cli.history.settings_json import settings_from_place, settings_to_json
from tanuki_cli.history.writer import is_alive, this_writer

NODE_COLUMNS: Final = (
    "conversation_id, id, parent_id, role, content, created_at, model, finish_reason, "
    "prompt_tokens, completion_tokens, cached_tokens, seed, tokens_per_s, writer, token_ids"
)
INSERT_NODE: Final = f"INSERT INTO nodes ({NODE_COLUMNS}) VALUES ({', '.join('?' * 15)})"
UPDATE_NODE: Final = """
    UPDATE nodes SET content = ?, model = ?, finish_reason = ?, prompt_tokens = ?, completion_tokens = ?,
        cached_tokens = ?, seed = ?, tokens_per_s = ?, writer = ?, token_ids = ?
    WHERE conversation_id = ? AND id = ? AND writer = ? AND finish_reason IS NULL
"""
CONVERSATION_COLUMNS: Final = "id, title, system, settings, created_at, updated_at, tip, kind"
# What a chat has gone on with is a chat for good, also for the process that asked and is not done yet.
INSERT_OR_UPDATE_CONVERSATION: Final = f"""
    INSERT INTO conversations ({CONVERSATION_COLUMNS}) VALUES ({", ".join("?" * 8)})
    ON CONFLICT (id) DO UPDATE SET system = excluded.system, settings = excluded.settings,
        updated_at = max(updated_at, excluded.updated_at), tip = excluded.tip,
        kind = CASE kind WHEN 'chat' THEN kind ELSE coalesce(excluded.kind, kind) END
"""
IS_QUESTION: Final = "(conversations.kind IS 'question')"

_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

MAX_TOKEN_ID: Final = 2**31 - 1

Column = str | int | float | None


def storable(text: str) -> str:
    """``text`` without lone surrogates, which are no text and cannot be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def timestamp(time: datetime) -> str:
    """UTC with microseconds, so that the order of the texts is the order of the times.

    A time within a day of the calendar's ends, which has no UTC, becomes that end.
    """
    try:
        utc = time.astimezone(timezone.utc)
    except OverflowError:
        end = datetime.min if time.year == 1 else datetime.max
        utc = end.replace(tzinfo=timezone.utc)
    return utc.isoformat(timespec="microseconds")


def last_change(nodes: Iterable[Node], *, created_at: datetime) -> str:
    """When a conversation with these nodes was last talked in."""
    return timestamp(max((node.created_at for node in nodes), default=created_at))


def conversation_values(conversation: Conversation, nodes: Iterable[Node]) -> tuple[Column, ...]:
    """The values of INSERT_OR_UPDATE_CONVERSATION; ``nodes`` are those that are new."""
    return (
        conversation.id,
        storable(conversation.title),
        None if conversation.system is None else storable(conversation.system),
        storable(settings_to_json(conversation.settings)),
        timestamp(conversation.created_at),
        last_change(nodes, created_at=conversation.created_at),
        conversation.tip,
        conversation.kind,
    )


def node_values(conversation_id: str, node: Node) -> tuple[Column, ...]:
    """The values of INSERT_NODE."""
    return (
        conversation_id,
        node.id,
        node.parent_id,
        node.message.role,
        storable(node.message.content),
        timestamp(node.created_at),
        *_generation_values(node.generation),
    )


def update_values(conversation_id: str, node: Node) -> tuple[Column, ...]:
    """The values of UPDATE_NODE: only the process that began an answer may change it."""
    return (
        storable(node.message.content),
        *_generation_values(node.generation),
        conversation_id,
        node.id,
        this_writer(),
    )


def _generation_values(generation: Generation | None) -> tuple[Column, ...]:
    """What a server or a file says of an answer, within what can be read back."""
    if generation is None:
        return (None,) * 9
    usage, speed = generation.usage, generation.tokens_per_s
    return (
        storable(generation.model),
        generation.finish_reason,
        _storable_count(usage.prompt_tokens) if usage else None,
        _storable_count(usage.completion_tokens) if usage else None,
        _storable_count(usage.cached_tokens) if usage else None,
        generation.seed if generation.seed is None or 0 <= generation.seed <= MAX_INTEGER else None,
        speed if speed is None or 0 <= speed < math.inf else None,
        this_writer() if generation.finish_reason is None else None,
        json.dumps(generation.token_ids) if generation.token_ids else None,
    )


def _storable_count(count: int) -> int:
    return min(max(count, 0), MAX_INTEGER)


def conversation_from_row(
    row: sqlite3.Row, nodes: Iterable[sqlite3.Row], *, report: Callable[[str], None] = lambda problem: None
) -> Conversation:
    """The conversation of a row and its nodes' rows, in their order.

    A file may have been damaged where SQLite does not notice. Everything that can be read is given;
    ``report`` is told, in English, what cannot: a message whose row makes no sense is left out, and those
    below it become first messages.
    """
    conversation = Conversation(
        id=read_id(row["id"]),
        title=read_text(row["title"]),
        kind=read_kind(row["kind"]),
        system=None if row["system"] is None else read_text(row["system"]),
        settings=_settings(row["settings"], report),
        created_at=read_time(row["created_at"]),
    )
    restored: dict[str, Node] = {}
    for node_row in nodes:
        try:
            node = node_from_row(node_row)
        except ValueError as exc:
            report(f"message {node_row['number']}: {exc}")
            continue
        if node.parent_id is not None and node.parent_id not in restored:
            report(f"message {node.id}: the one before it cannot be read")
            node = replace(node, parent_id=None)
        restored[node.id] = node
    tip = None if row["tip"] is None else read_id(row["tip"])
    if tip is not None and tip not in restored:
        report("the message it stood at cannot be read")
        tip = next(reversed(restored), None)
    conversation.restore(restored.values(), tip=tip)
    return conversation


def node_from_row(row: sqlite3.Row) -> Node:
    """A node; an answer that nobody is writing any more comes back as interrupted.

    Raises ValueError for one that cannot stand in a conversation; what else is wrong is replaced.
    """
    role, content = row["role"], row["content"]
    if role not in get_args(Role):
        raise ValueError(f"the role {role!r} is unknown")
    if not isinstance(content, str):
        raise ValueError("the text is none")
    generation = None
    if row["model"] is not None:
        reason: FinishReason | None = row["finish_reason"]
        if reason not in get_args(FinishReason) and not (
            row["writer"] and is_alive(read_text(row["writer"]))
        ):
            reason = "interrupted"
        generation = Generation(
            model=read_text(row["model"]),
            finish_reason=reason,
            usage=_usage(row),
            seed=_count(row["seed"]),
            tokens_per_s=_speed(row["tokens_per_s"]),
            token_ids=read_token_ids(row["token_ids"]),
        )
    parent = row["parent_id"]
    return Node(
        id=read_id(row["id"]),
        parent_id=None if parent is None else read_id(parent),
        message=Message(role, content),
        created_at=read_time(row["created_at"]),
        generation=generation,
    )


def read_time(value: object) -> datetime:
    """A time as :func:`timestamp` writes it; the beginning of 1970 for anything else."""
    try:
        time = datetime.fromisoformat(read_text(value))
    except ValueError:
        return _NO_TIME
    return time if time.tzinfo is not None else _NO_TIME


def read_id(value: object) -> str:
    """An id column; for one that was damaged an id in its place, always the same, that can be exported."""
    if isinstance(value, str) and is_id(value):
        return value
    return hashlib.blake2b(repr(value).encode("utf-8", "replace"), digest_size=8).hexdigest()


def read_kind(value: object) -> ConversationKind | None:
    """A column of kinds; None for anything else."""
    return next((kind for kind in get_args(ConversationKind) if kind == value), None)


def read_text(value: object) -> str:
    """A text column; empty for anything else."""
    return value if isinstance(value, str) else ""


def read_token_ids(value: object) -> tuple[int, ...]:
    """A column of token ids; none for anything else."""
    try:
        ids = json.loads(read_text(value))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(ids, list) or not all(type(id_) is int and 0 <= id_ <= MAX_TOKEN_ID for id_ in ids):
        return ()
    return tuple(ids)


def _usage(row: sqlite3.Row) -> Usage | None:
    prompt, completion, cached = (
        _count(row[f"{kind}_tokens"]) for kind in ("prompt", "completion", "cached")
    )
    if prompt is None or completion is None:
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached or 0)


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _speed(value: object) -> float | None:
    return value if isinstance(value, float) and 0 <= value < math.inf else None


def _settings(text: object, report: Callable[[str], None]) -> ConversationSettings:
    try:
        return settings_from_place(Place(json.loads(read_text(text))))
    except (ValueError, RecursionError) as exc:
        report(f"its settings cannot be read: {exc}")
        return ConversationSettings()

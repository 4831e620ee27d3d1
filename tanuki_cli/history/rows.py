"""Conversations and nodes as rows, and back."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any, Final

from tanuki_cli.conversation import (
    Conversation,
    ConversationSettings,
    Generation,
    Message,
    Node,
    Usage,
)
from tanuki_cli.history.json_place import Place
from tanuki_cli.history.writer import is_alive, this_writer
from tanuki_cli.options import Kind, Value
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions

NODE_COLUMNS: Final = (
    "conversation_id, id, parent_id, role, content, created_at, model, finish_reason, "
    "prompt_tokens, completion_tokens, cached_tokens, seed, tokens_per_s, writer"
)
INSERT_NODE: Final = f"INSERT INTO nodes ({NODE_COLUMNS}) VALUES ({', '.join('?' * 14)})"
UPDATE_NODE: Final = """
    UPDATE nodes SET content = ?, model = ?, finish_reason = ?, prompt_tokens = ?, completion_tokens = ?,
        cached_tokens = ?, seed = ?, tokens_per_s = ?, writer = ?
    WHERE conversation_id = ? AND id = ? AND writer = ? AND finish_reason IS NULL
"""
INSERT_OR_UPDATE_CONVERSATION: Final = """
    INSERT INTO conversations (id, title, system, settings, created_at, updated_at, tip)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET system = excluded.system, settings = excluded.settings,
        updated_at = max(updated_at, excluded.updated_at), tip = excluded.tip
"""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Column = str | int | float | None


def storable(text: str) -> str:
    """``text`` without lone surrogates, which are no text and cannot be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def timestamp(time: datetime) -> str:
    """UTC with microseconds, so that the order of the texts is the order of the times."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")


def last_change(nodes: Iterable[Node], *, created_at: datetime) -> str:
    """When a conversation with these nodes was last talked in."""
    return timestamp(max((node.created_at for node in nodes), default=created_at))


def conversation_values(conversation: Conversation) -> tuple[Column, ...]:
    """The values of INSERT_OR_UPDATE_CONVERSATION."""
    return (
        conversation.id,
        storable(conversation.title),
        None if conversation.system is None else storable(conversation.system),
        settings_to_json(conversation.settings),
        timestamp(conversation.created_at),
        last_change(conversation.nodes.values(), created_at=conversation.created_at),
        conversation.tip,
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
    if generation is None:
        return (None,) * 8
    usage = generation.usage
    return (
        generation.model,
        generation.finish_reason,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        usage.cached_tokens if usage else None,
        generation.seed,
        generation.tokens_per_s,
        this_writer() if generation.finish_reason is None else None,
    )


def conversation_from_row(row: sqlite3.Row, nodes: Iterable[sqlite3.Row]) -> Conversation:
    """The conversation of a row and its nodes' rows, in their order.

    Raises ValueError for values that this program does not write.
    """
    conversation = Conversation(
        id=row["id"],
        title=row["title"],
        system=row["system"],
        settings=settings_from_place(Place(json.loads(row["settings"]))),
        created_at=datetime.fromisoformat(row["created_at"]),
    )
    conversation.restore(map(node_from_row, nodes), tip=row["tip"])
    return conversation


def node_from_row(row: sqlite3.Row) -> Node:
    """A node; an answer that nobody is writing any more comes back as interrupted."""
    generation = None
    if row["model"] is not None:
        usage = None
        if row["prompt_tokens"] is not None:
            usage = Usage(
                prompt_tokens=row["prompt_tokens"],
                completion_tokens=row["completion_tokens"],
                cached_tokens=row["cached_tokens"],
            )
        generation = Generation(
            model=row["model"],
            finish_reason=row["finish_reason"],
            usage=usage,
            seed=row["seed"],
            tokens_per_s=row["tokens_per_s"],
        )
        if generation.finish_reason is None and not (row["writer"] and is_alive(row["writer"])):
            generation = replace(generation, finish_reason="interrupted")
    return Node(
        id=row["id"],
        parent_id=row["parent_id"],
        message=Message(row["role"], row["content"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        generation=generation,
    )


def settings_to_json(settings: ConversationSettings) -> str:
    """The settings with every field named."""
    return json.dumps(asdict(settings), ensure_ascii=False, sort_keys=True)


def settings_from_place(place: Place) -> ConversationSettings:
    """The settings of :func:`settings_to_json`, read and checked. Raises ValueError with the place.

    What is missing, because the text is older than the option, has its default; what is unknown, because it
    is newer, is left out.
    """
    model, sampling = place.find("model"), place.find("sampling")
    return ConversationSettings(
        model="auto" if model is None else model.text(),
        sampling=SamplingOptions() if sampling is None else _sampling_from_place(sampling),
        context_length=place.maybe("context_length", Place.integer),
        persona=place.maybe("persona", Place.text),
    )


def _sampling_from_place(place: Place) -> SamplingOptions:
    values: dict[str, Any] = {}
    for spec in SAMPLING_SPECS:
        found = place.find(spec.key)
        if found is not None and not (found.value is None and spec.default is None):
            values[spec.key] = _READERS[spec.kind](found)
    return SamplingOptions(**values)


_READERS: Final[Mapping[Kind, Callable[[Place], Value]]] = {
    "text": Place.text,
    "texts": Place.texts,
    "integer": Place.integer,
    "number": Place.number,
    "boolean": Place.boolean,
}

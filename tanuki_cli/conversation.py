"""A conversation is a tree of messages with a tip; what the model sees is the path to the tip.

Retry and edit make siblings, so nothing is ever overwritten. Pure: no clock but the one passed in,
no storage, no engine.
"""

import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from itertools import islice
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from tanuki_cli.sampling import SamplingOptions

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "interrupted"]
ConversationKind = Literal["chat", "question"]
"""A question is one of ``tanuki ask`` that no chat has gone on with."""


class Message(Struct, frozen=True):
    """One message as the model is told it."""

    role: Role
    content: str


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts of one answer; ``cached_tokens`` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Generation(Struct, frozen=True, kw_only=True):
    """How an assistant message came to be.

    ``finish_reason`` None means that it is still being written, or that the process was killed
    while it was. ``token_ids`` are those of an answer that can go on, where the engine knows them.
    """

    model: str
    finish_reason: FinishReason | None
    usage: Usage | None = None
    seed: int | None = None
    tokens_per_s: float | None = None
    token_ids: tuple[int, ...] = ()


class Node(Struct, frozen=True, kw_only=True):
    """A message in its place in the tree; ``parent_id`` None is a first message."""

    id: str
    parent_id: str | None
    message: Message
    created_at: datetime
    generation: Generation | None = None


class ConversationSettings(Struct, frozen=True, kw_only=True):
    """What was chosen for a conversation, so that it can be taken up again as it was.

    ``model`` is the reference the user gave. ``context_length`` None means the model's own.
    """

    model: str = "auto"
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    context_length: int | None = None
    persona: str | None = None


def new_id() -> str:
    """A random id: 16 hexadecimal digits, so that four or five of them already tell ids apart."""
    return os.urandom(8).hex()


def utc_now() -> datetime:
    """The time now, with its zone."""
    return datetime.now(timezone.utc)


class Conversation(Struct, kw_only=True):
    """The tree, its tip, and what was set for it.

    ``system`` None means the model's own system prompt. ``tip`` None is before the first message.
    ``kind`` None is one from before kinds were kept: it may be either.
    Invariant: every ``parent_id`` and the tip are ids in ``nodes``; parents come before children.
    """

    id: str = field(default_factory=new_id)
    title: str = ""
    kind: ConversationKind | None = "chat"
    system: str | None = None
    settings: ConversationSettings = field(default_factory=ConversationSettings)
    created_at: datetime = field(default_factory=utc_now)
    nodes: dict[str, Node] = {}
    tip: str | None = None
    clock: Callable[[], datetime] = utc_now
    _children: dict[str | None, list[str]] = {}
    _counted: int = 0

    def __eq__(self, other: object) -> bool:
        """Whether all is the same but the clock, and what is derived from the nodes."""
        if not isinstance(other, Conversation):
            return NotImplemented
        names = (name for name in self.__struct_fields__ if name != "clock" and not name.startswith("_"))
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def append(self, message: Message, *, generation: Generation | None = None) -> Node:
        """Add ``message`` below the tip, and make it the tip."""
        node = Node(
            id=new_id(), parent_id=self.tip, message=message, created_at=self.clock(), generation=generation
        )
        self.nodes[node.id] = node
        self.tip = node.id
        return node

    def update(self, node_id: str, content: str, generation: Generation) -> Node:
        """Let a growing assistant message grow; only one that is not finished may change.

        Raises ValueError for a finished node, KeyError for an unknown one.
        """
        node = self.nodes[node_id]
        if node.generation is None or node.generation.finish_reason is not None:
            raise ValueError(f"node {node_id} is finished")
        node = replace(node, message=replace(node.message, content=content), generation=generation)
        self.nodes[node_id] = node
        return node

    def branch(self, node_id: str | None) -> None:
        """Move the tip, so that the next message becomes another child of ``node_id``.

        Raises KeyError for an unknown id.
        """
        if node_id is not None and node_id not in self.nodes:
            raise KeyError(node_id)
        self.tip = node_id

    def path_nodes(self) -> list[Node]:
        """The nodes from the first message to the tip."""
        path: list[Node] = []
        node_id = self.tip
        while node_id is not None:
            node = self.nodes[node_id]
            path.append(node)
            node_id = node.parent_id
        path.reverse()
        return path

    def path(self) -> list[Message]:
        """What the model is told: the system message if one is set, then the path to the tip."""
        head = [Message("system", self.system)] if self.system is not None else []
        return head + [node.message for node in self.path_nodes()]

    def children(self, node_id: str | None) -> list[Node]:
        """The messages directly below ``node_id`` (None: the first messages), oldest first."""
        if self._counted < len(self.nodes):  # nodes are only ever added
            for node in islice(self.nodes.values(), self._counted, None):
                self._children.setdefault(node.parent_id, []).append(node.id)
            self._counted = len(self.nodes)
        return [self.nodes[child] for child in self._children.get(node_id, ())]

    def siblings(self, node_id: str) -> list[Node]:
        """All alternatives to ``node_id``, itself included, oldest first."""
        return self.children(self.nodes[node_id].parent_id)

    def last(self, role: Role) -> Node | None:
        """The last node of ``role`` on the path, or None."""
        return next((node for node in reversed(self.path_nodes()) if node.message.role == role), None)

    def restore(self, nodes: Iterable[Node], *, tip: str | None) -> None:
        """Take the tree from storage, parents before children.

        Raises ValueError where a parent or the tip is missing.
        """
        restored: dict[str, Node] = {}
        for node in nodes:
            if node.parent_id is not None and node.parent_id not in restored:
                raise ValueError(f"node {node.id} has no parent {node.parent_id}")
            restored[node.id] = node
        if tip is not None and tip not in restored:
            raise ValueError(f"tip {tip} is not in the conversation")
        self.nodes, self.tip = restored, tip
        self._children, self._counted = {}, 0

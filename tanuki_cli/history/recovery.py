"""Conversations out of a damaged history file."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, Node
from tanuki_cli.errors import HistoryError
from tanuki_cli.files import os_reason
from tanuki_cli.history import rows
from tanuki_cli.history.database import set_aside_files
from tanuki_cli.history.json_place import Place
from tanuki_cli.history.merging import ImportReport
from tanuki_cli.history.salvage import Row, salvage
from tanuki_cli.history.store import HistoryStore
from tanuki_cli.history.titles import automatic_title
from tanuki_cli.history.transfer import read_conversation, read_node
from tanuki_cli.i18n import _

# The columns as the rows hold them; later schemas only add to the right, and a row that was written before
# stays as short as it was.
_CONVERSATION: Final = tuple(rows.CONVERSATION_COLUMNS.split(", "))
_NODE: Final = ("number", *rows.NODE_COLUMNS.split(", "))
_CONVERSATION_WIDTHS: Final = range(7, len(_CONVERSATION) + 1)
_NODE_WIDTHS: Final = range(15, len(_NODE) + 1)


class Recovered(Struct, frozen=True, kw_only=True):
    """What a damaged file still holds.

    ``unreadable`` counts rows and pages that were recognised and could not be read; ``detached``
    counts messages that begin a tree of their own now, because the one before them is lost.
    """

    path: Path
    conversations: tuple[Conversation, ...]
    unreadable: int
    detached: int

    @property
    def messages(self) -> int:
        """How many messages were read."""
        return sum(len(conversation.nodes) for conversation in self.conversations)


class RecoveryReport(Struct, frozen=True, kw_only=True):
    """What was read from a damaged file, and what of it was new to the history."""

    recovered: Recovered
    imported: ImportReport


def recover(store: HistoryStore, damaged: Path | None = None) -> RecoveryReport:
    """Add to ``store`` what can be read of a damaged file (default: the one set aside last); the file stays.

    The store's own file is set aside first, since what is wrong with it may not be mended in place.

    Raises HistoryError where there is no such file, or nothing in it can be read.
    """
    store.close()
    recovered = read_damaged(damaged or newest_set_aside(store.path))
    if damaged is not None and store.path.exists() and damaged.samefile(store.path):
        recovered = replace(recovered, path=store.set_aside())
    return RecoveryReport(recovered=recovered, imported=store.add(recovered.conversations))


def newest_set_aside(history: Path) -> Path:
    """The damaged file that was set aside last. Raises HistoryError if there is none."""
    files = set_aside_files(history)
    if not files:
        raise HistoryError(
            _("There is no damaged history to recover in {directory}.").format(directory=history.parent),
            hint="tanuki history recover FILE",
        )
    return files[-1]


def read_damaged(path: Path) -> Recovered:
    """Read what is left of the conversations in ``path``, which is not changed.

    Raises HistoryError if the file cannot be opened, is of a later version, or holds nothing.
    """
    try:
        found = salvage(path, widths=(*_CONVERSATION_WIDTHS, *_NODE_WIDTHS))
    except OSError as exc:
        raise HistoryError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc)),
            hint=f"ls -l {path}",
        ) from exc
    heads = _heads(found.rows)
    trees = _trees(found.rows)
    conversations = [
        _assemble(heads.get(id_) or Conversation(id=id_, kind=None), tree) for id_, tree in trees.items()
    ]
    if not conversations:
        raise HistoryError(
            _("Nothing could be read from {path}; the file was left as it is.").format(path=path),
            hint="tanuki history list",
        )
    return Recovered(
        path=path,
        conversations=tuple(conversation for conversation, _cut in conversations),
        unreadable=found.unreadable,
        detached=sum(cut for _conversation, cut in conversations),
    )


def _heads(found: Iterable[Row]) -> dict[str, Conversation]:
    """The conversations by id, without their messages; the tip is the one they were saved with."""
    heads: dict[str, Conversation] = {}
    for row in found:
        if len(row.values) not in _CONVERSATION_WIDTHS:
            continue
        columns = _columns(_CONVERSATION, row)
        # A row that is none of ours, or has lost its sense, is left out.
        with suppress(ValueError, TypeError):
            settings = json.loads(columns["settings"])
            id_ = rows.read_id(columns["id"])
            changes = {"id": id_, "kind": rows.read_kind(columns["kind"]), "settings": settings}
            place = Place({**columns, **changes, "tip": None, "nodes": []})
            conversation = read_conversation(place)
            conversation.tip = _id_or_none(columns["tip"])
            heads[conversation.id] = conversation
    return heads


def _trees(found: Iterable[Row]) -> dict[str, dict[str, Node]]:
    """The messages of each conversation by id, in the order they were saved.

    A page that SQLite no longer uses may hold an earlier state of an answer: the longest is the last.
    """
    trees: dict[str, dict[str, Node]] = {}
    for row in sorted(found, key=lambda row: row.rowid):
        if len(row.values) not in _NODE_WIDTHS:
            continue
        columns = _columns(_NODE, row)
        with suppress(ValueError):
            ids = {"id": rows.read_id(columns["id"]), "parent_id": _id_or_none(columns["parent_id"])}
            node = read_node(Place({**columns, **ids, "generation": _generation(columns)}))
            tree = trees.setdefault(rows.read_id(columns["conversation_id"]), {})
            known = tree.get(node.id)
            if known is None or len(known.message.content) <= len(node.message.content):
                tree[node.id] = node
    return trees


def _columns(names: Sequence[str], row: Row) -> dict[str, Any]:
    """The columns by name; None for those that a short row does not have."""
    return dict(zip_longest(names, row.values))


def _id_or_none(value: object) -> str | None:
    return None if value is None else rows.read_id(value)


def _generation(columns: dict[str, Any]) -> dict[str, Any] | None:
    if columns["model"] is None:
        return None
    usage = columns if columns["prompt_tokens"] is not None else None
    return {**columns, "usage": usage, "token_ids": list(rows.read_token_ids(columns["token_ids"]))}


def _assemble(conversation: Conversation, tree: dict[str, Node]) -> tuple[Conversation, int]:
    """Put a conversation together; the number of messages whose parent is lost."""
    nodes: dict[str, Node] = {}
    for node in tree.values():
        nodes[node.id] = node if node.parent_id in nodes else replace(node, parent_id=None)
    detached = sum(nodes[node.id].parent_id != node.parent_id for node in tree.values())
    tip = conversation.tip if conversation.tip in nodes else next(reversed(nodes), None)
    conversation.restore(nodes.values(), tip=tip)
    conversation.title = conversation.title or automatic_title(conversation)
    return conversation, detached

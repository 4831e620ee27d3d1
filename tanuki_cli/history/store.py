"""The store: conversations in, conversations out, nothing overwritten."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tanuki_cli.conversation import Conversation, ConversationKind, Node
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import rows
from tanuki_cli.history.database import Database
from tanuki_cli.history.faults import BusyError
from tanuki_cli.history.listing import ConversationSummary, containing, id_of_number, summaries
from tanuki_cli.history.lookup import (
    MAX_NUMBER,
    MIN_ID_DIGITS,
    UnknownConversationError,
    ambiguous,
    find_conversation,
    rowid_of,
)
from tanuki_cli.history.search import SearchHit, drop_forgotten, forget_conversation, index_node, search
from tanuki_cli.history.titles import automatic_title
from tanuki_cli.i18n import _
from tanuki_cli.options import fold

if TYPE_CHECKING:
    from tanuki_cli.history.merging import ImportReport


def _ignore(_notice: str) -> None:
    pass


class HistoryStore:
    """The conversations of one history file, shared with other processes.

    The file is made at the first save. Every method is one transaction. All raise HistoryError:
    when the file cannot be read or written, was written by a newer version, or stays locked; the
    conversation in memory is as good as before, so a chat can go on. A damaged file is set aside,
    a new one is started, and ``notify`` is given a sentence for the user.
    """

    def __init__(self, path: Path, *, notify: Callable[[str], None] = _ignore) -> None:
        self._database = Database(path, notify=notify)
        self._notify = notify
        self._settled: dict[str, tuple[int, str]] = {}  # nodes that this saved for good; the last one's id

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return self._database.path

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._database.close()

    def set_aside(self) -> Path:
        """Give the file another name, under which it stays; the next save makes a new one."""
        return self._database.set_aside()

    def __enter__(self) -> "HistoryStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- saving -----------------------------------------------------------------------------------

    def save(self, conversation: Conversation) -> None:
        """Save what is new in ``conversation``: its nodes, finished answers, tip, system prompt, settings.

        One transaction. A conversation without a message is not worth saving yet. An empty title is
        filled from the first question; a saved title is left to :meth:`set_title`. Whatever an earlier
        save could not write, or another process deleted meanwhile, is written now.
        """
        if not conversation.nodes:
            return
        conversation.title = conversation.title or automatic_title(conversation)
        nodes = list(conversation.nodes.values())
        settled, last_id = self._settled.get(conversation.id, (0, ""))
        if settled and (len(nodes) < settled or nodes[settled - 1].id != last_id):
            settled = 0
        self._database.write(lambda connection: _save(connection, conversation, nodes, settled))
        while settled < len(nodes) and not _grows(nodes[settled]):
            settled += 1
        self._settled[conversation.id] = (settled, nodes[settled - 1].id if settled else "")

    def update_node(self, conversation_id: str, node: Node) -> None:
        """Let an unfinished answer of this process grow, or finish it. A finished one never changes.

        Raises HistoryError for a node that is finished, another process's, or not there.
        """

        def operation(connection: sqlite3.Connection) -> None:
            if connection.execute(rows.UPDATE_NODE, rows.update_values(conversation_id, node)).rowcount != 1:
                raise HistoryError(
                    _("The answer cannot be saved: its conversation is no longer in the history."),
                    hint=_("It is saved again with your next message."),
                )
            index_node(connection, conversation_id, node.id)

        self._database.write(operation)

    def set_tip(self, conversation_id: str, tip: str | None) -> None:
        """Remember where the conversation goes on; one that is not saved yet has nothing to remember."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE conversations SET tip = ? WHERE id = ?", (tip, conversation_id)
            )
        )

    def set_title(self, conversation_id: str, title: str) -> None:
        """Give the conversation a title of the user's."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE conversations SET title = ? WHERE rowid = ?",
                (rows.storable(title), rowid_of(connection, conversation_id)),
            )
        )

    def delete(self, *conversation_ids: str) -> None:
        """Remove conversations and all their messages; no piece of their texts is left in the file or
        beside it, unless that was set aside as damaged."""

        def operation(connection: sqlite3.Connection) -> None:
            for id_ in conversation_ids:
                rowid = rowid_of(connection, id_)
                forget_conversation(connection, rowid)
                connection.execute("DELETE FROM conversations WHERE rowid = ?", (rowid,))
            drop_forgotten(connection)

        self._database.write(operation)
        try:
            self._database.rewrite()
        except HistoryError as exc:
            raise HistoryError(
                _("It was removed, but parts of it may be left in the file: {reason}").format(
                    reason=exc.message
                ),
                hint=_("Close the other tanuki: they go with the last one that ends.")
                if isinstance(exc, BusyError)
                else exc.hint,
            ) from exc

    def add(self, conversations: Iterable[Conversation]) -> "ImportReport":
        """Add conversations from a file in one transaction. What is there already stays as it is."""
        from tanuki_cli.history.merging import merge

        return self._database.write(lambda connection: merge(connection, conversations))

    # --- reading ----------------------------------------------------------------------------------

    def load(self, id_prefix: str) -> Conversation:
        """The one conversation whose id begins with ``id_prefix``.

        A number up to MAX_NUMBER is that of the list: 1 is the chat that was last talked in, and after the
        chats the questions are counted.
        Raises UnknownConversationError if there is none, AmbiguousIdError if there are several.
        """
        problems: list[str] = []
        folded = fold(rows.storable(id_prefix))
        if folded.isdecimal() and len(folded) <= len(str(MAX_NUMBER)) and int(folded) > 0:
            numbered = self._database.read(
                lambda connection: id_of_number(connection, int(folded)), missing=None
            )
            folded = numbered or folded
        conversation = self._database.read(
            lambda connection: find_conversation(connection, folded, problems.append) if folded else None,
            missing=None,
        )
        if conversation is None:
            raise UnknownConversationError(
                _("There is no conversation {id!r} in the history.").format(id=id_prefix),
                hint="tanuki history list",
            )
        if problems:
            self._notify(
                _(
                    "The conversation {id} is damaged: {count} of its parts cannot be read and are left out; "
                    "see: tanuki history verify"
                ).format(id=conversation.id[:MIN_ID_DIGITS], count=len(problems))
            )
        return conversation

    def find(self, text: str) -> Conversation:
        """The conversation whose id begins with ``text``, else the one with ``text`` in it.
        Raises as :meth:`load`; the candidates are those that were last talked in.
        """
        try:
            return self.load(text)
        except UnknownConversationError:
            none: list[ConversationSummary] = []
            found = self._database.read(
                lambda connection: containing(connection, rows.storable(text)), missing=none
            )
            if not found:
                raise
        if len(found) > 1:
            raise ambiguous(text, found)
        return self.load(found[0].id)

    def id_digits(self) -> int:
        """How many digits of an id tell all conversations apart; at least MIN_ID_DIGITS."""
        none: list[str] = []
        query = "SELECT id FROM conversations"
        ids = self._database.read(
            lambda connection: [rows.read_id(row["id"]) for row in connection.execute(query)], missing=none
        )
        digits = MIN_ID_DIGITS
        while len({id_[:digits] for id_ in ids}) < len(ids):
            digits += 1
        return digits

    def verify(self) -> Sequence[str]:
        """What is wrong with the file, in English; nothing for a sound one. Takes seconds."""
        from tanuki_cli.history.verification import verify  # for those who doubt

        return self._database.read(verify, missing=[])

    def latest(self) -> Conversation | None:
        """The conversation that was last talked in, or None."""
        newest = self.list(limit=1)
        return self.load(newest[0].id) if newest else None

    def list(
        self, *, limit: int | None = None, kind: ConversationKind | None = None
    ) -> Sequence[ConversationSummary]:
        """The conversations, or those of one kind, last talked in first."""
        return self._database.read(
            lambda connection: summaries(connection, limit=limit, kind=kind), missing=[]
        )

    def offered(self, *, chats: int, questions: int) -> Sequence[ConversationSummary]:
        """The newest of each kind to choose from, at most so many, the chats first."""
        return [*self.list(limit=chats, kind="chat"), *self.list(limit=questions, kind="question")]

    def search(self, text: str, *, limit: int = 20) -> Sequence[SearchHit]:
        """The messages that contain every word of ``text``, newest first, on whatever branch.

        Compared after folding: ｶﾞｿﾘﾝ finds ガソリン. A blank text finds nothing.
        """
        known = rows.storable(text)  # bytes of a command line that were no text
        return self._database.read(lambda connection: search(connection, known, limit=limit), missing=[])


def _save(
    connection: sqlite3.Connection, conversation: Conversation, nodes: Sequence[Node], settled: int
) -> None:
    """Save what is new among ``nodes``, all there are; the first ``settled`` are not, if they are there.

    Nodes are removed with their whole conversation only, and a node without its parent cannot be there: so
    it is enough to look for the last of those.
    """
    if settled and _saved(connection, conversation.id, nodes[settled - 1]) is None:
        settled = 0
    values = rows.conversation_values(conversation, nodes[settled:])
    connection.execute(rows.INSERT_OR_UPDATE_CONVERSATION, values)
    for node in nodes[settled:]:
        saved = _saved(connection, conversation.id, node)
        if saved is None:
            connection.execute(rows.INSERT_NODE, rows.node_values(conversation.id, node))
        elif saved["finish_reason"] is None and node.generation is not None and not _grows(node):
            connection.execute(rows.UPDATE_NODE, rows.update_values(conversation.id, node))
        else:
            continue
        index_node(connection, conversation.id, node.id)


def _grows(node: Node) -> bool:
    """Whether it is an answer that is not finished."""
    return node.generation is not None and node.generation.finish_reason is None


def _saved(connection: sqlite3.Connection, conversation_id: str, node: Node) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT finish_reason FROM nodes WHERE conversation_id = ? AND id = ?", (conversation_id, node.id)
    ).fetchone()
    return row

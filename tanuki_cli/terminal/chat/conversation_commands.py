"""Slash commands that act on the messages: the tree, its branches, and other conversations."""

import re
from collections.abc import Sequence
from typing import Final

from rich.text import Text

from tanuki_cli.conversation import Conversation, ConversationSettings, Node
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.files import expand_home
from tanuki_cli.history import (
    MAX_NUMBER,
    AmbiguousIdError,
    ConversationSummary,
    SearchHit,
    UnknownConversationError,
)
from tanuki_cli.history.transfer import export_text, format_of, write_export
from tanuki_cli.i18n import _
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.program_commands import show, speaker
from tanuki_cli.terminal.editor import edit_text
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.width import cell_width, truncate_cells

_WHITE_SPACE: Final = re.compile(r"\s+")
_LISTED: Final = 20
_LISTED_QUESTIONS: Final = 5


def new(chat: Chat, _argument: str) -> None:
    """Begin a new conversation with the same model and settings."""
    persona = chat.conversation.settings.persona
    chat.start(Conversation(system=chat.conversation.system, settings=ConversationSettings(persona=persona)))
    chat.console.note(_("New conversation."))


def retry(chat: Chat, _argument: str) -> None:
    """Answer the last question again."""
    chat.retry()


def continue_(chat: Chat, _argument: str) -> None:
    """Let an answer that was cut go on in its place."""
    chat.go_on()


def undo(chat: Chat, _argument: str) -> None:
    """Take the last turn out of the path; it stays in the tree."""
    question = chat.conversation.last("user")
    if question is None:
        raise InputError(_("There is nothing to undo."), hint="/help undo")
    chat.session.move_tip(question.parent_id)
    chat.console.note(_("The last turn was taken back; /history still has it."))


def _numbered(chat: Chat, argument: str, nodes: list[Node]) -> Node:
    if not argument.isdecimal() or not 1 <= int(argument) <= len(nodes):
        raise InputError(
            _("There is no message {number!r}.").format(number=argument), hint=_("/history lists the numbers")
        )
    return nodes[int(argument) - 1]


def edit(chat: Chat, argument: str) -> None:
    """Edit a question in $EDITOR and ask it as a sibling of the old one."""
    nodes = list(chat.conversation.nodes.values())
    question = _numbered(chat, argument, nodes) if argument else chat.conversation.last("user")
    if question is not None and question.message.role != "user":
        asked = next((number for number, node in enumerate(nodes, 1) if node.id == question.parent_id), 1)
        raise InputError(
            _("Message {number} is an answer; /edit takes a question.").format(number=argument),
            hint=f"/edit {asked}",
        )
    if question is None:
        raise InputError(_("There is no question to edit."), hint=_("/history lists the numbers"))
    with chat.console.typed.lend():
        text = edit_text(question.message.content)
    if text is None or text.strip() in {"", question.message.content.strip()}:
        chat.console.note(_("Nothing was changed."))
        return
    chat.session.move_tip(question.parent_id)
    chat.console.note(f"> {text}")
    chat.ask(text)


def branch(chat: Chat, argument: str) -> None:
    """Without a number, list the places with alternatives; with one, make that message the tip."""
    nodes = list(chat.conversation.nodes.values())
    if argument:
        node = _numbered(chat, argument, nodes)
        chat.session.move_tip(_newest_leaf(chat.conversation, node).id)
        tree(chat, "")
        return
    forks = [node for node in nodes if len(chat.conversation.siblings(node.id)) > 1]
    if not forks:
        chat.console.note(_("This conversation has no branches yet; /retry and /edit make some."))
        return
    _show_nodes(chat, forks)


def _newest_leaf(conversation: Conversation, node: Node) -> Node:
    while children := conversation.children(node.id):
        node = children[-1]
    return node


def tree(chat: Chat, _argument: str) -> None:
    """Print every message with its number; the current path is marked."""
    nodes = list(chat.conversation.nodes.values())
    if not nodes:
        chat.console.note(_("This conversation is still empty."))
        return
    _show_nodes(chat, nodes)


def _show_nodes(chat: Chat, nodes: list[Node]) -> None:
    numbers = {node_id: number for number, node_id in enumerate(chat.conversation.nodes, 1)}
    path = {node.id for node in chat.conversation.path_nodes()}
    depths = _fork_depths(chat.conversation)
    for node in nodes:
        mark = "*" if node.id in path else " "
        label = f"{mark} {numbers[node.id]:>3} {'  ' * depths[node.id]}{speaker(node)}: "
        room = max(chat.console.err.width - cell_width(label) - 1, 8)
        show(chat, label + truncate_cells(sanitize(" ".join(node.message.content.split())), room))


def _fork_depths(conversation: Conversation) -> dict[str, int]:
    """By node: how many of it and its ancestors are not the first among their siblings."""
    depths: dict[str | None, int] = {None: 0}
    for node in conversation.nodes.values():  # parents come before children
        is_first = conversation.children(node.parent_id)[0].id == node.id
        depths[node.id] = depths[node.parent_id] + (not is_first)
    return {node_id: depth for node_id, depth in depths.items() if node_id is not None}


def search(chat: Chat, argument: str) -> None:
    """List the messages of all conversations that contain the text."""
    if not argument:
        raise InputError(_("/search needs a text."), hint="/search たぬき")
    hits = chat.history.search(argument, limit=20)
    digits = chat.history.id_digits()
    if not hits:
        chat.console.note(_("Nothing was found."))
    for hit in hits:
        when = hit.created_at.astimezone().strftime("%m-%d %H:%M")
        row = Text(f"  {hit.conversation_id[:digits]}  {when}  ").append_text(_excerpt(hit))
        row.truncate(max(chat.console.err.width - 1, 1), overflow="ellipsis")
        chat.console.err.print(row, soft_wrap=True)


def _excerpt(hit: SearchHit) -> Text:
    """The line around the first place found, a few characters before it, with the place marked."""
    start, end = hit.highlights[0] if hit.highlights else (0, 0)
    line_start = hit.content.rfind("\n", 0, start) + 1
    begin = max(line_start, start - 10)
    before, found, after = (
        sanitize(_WHITE_SPACE.sub(" ", part))
        for part in (hit.content[begin:start], hit.content[start:end], hit.content[end : end + 200])
    )
    text = Text("…" if begin > line_start else "").append(before)
    return text.append(found, style="found").append(after)


def resume(chat: Chat, argument: str) -> None:
    """List the newest conversations, the last chat at the end, or go on with one by its number or id."""
    if argument:
        number = int(argument) if argument.isdecimal() and len(argument) <= len(str(MAX_NUMBER)) else 0
        try:
            conversation = chat.history.find(chat.listed.get(number, argument))
        except (UnknownConversationError, AmbiguousIdError) as error:
            raise HistoryError(error.message, hint="/resume") from error
        chat.start(conversation)
        chat.show_last_turn()
        return
    chats = chat.history.list(limit=_LISTED + 1, kind="chat")
    questions = chat.history.list(limit=_LISTED_QUESTIONS + 1, kind="question")
    chat.listed = {}
    for heading, group in (
        (_("Questions (tanuki ask)"), questions[:_LISTED_QUESTIONS]),
        (_("Chats (tanuki chat)"), chats[:_LISTED]),
    ):
        if questions and group:  # chats alone need no heading
            show(chat, heading)
        _show_conversations(chat, group)
    if len(chats) > _LISTED or len(questions) > _LISTED_QUESTIONS:
        chat.console.note(_("Only the newest; all: tanuki history list"))
    if chat.listed:
        chat.console.note(_("Go on with one: /resume NUMBER"))


def _show_conversations(chat: Chat, found: Sequence[ConversationSummary]) -> None:
    """List them with their numbers, the newest at the end."""
    digits = chat.history.id_digits()
    for summary in reversed(found):
        chat.listed[summary.number] = summary.id
        # Many conversations begin with the same words; when they were is what tells them apart.
        when = summary.updated_at.astimezone().strftime("%m-%d %H:%M")
        head = f"  {summary.number:>2}  {summary.id[:digits]}  {when}  "
        title_room = max(chat.console.err.width - len(head) - 1, 8)
        show(chat, head + truncate_cells(sanitize(summary.title), title_room))


def title(chat: Chat, argument: str) -> None:
    """Show or set the title."""
    if argument:
        chat.session.set_title(argument)
    show(chat, chat.conversation.title or _("(no title yet)"))


def save(chat: Chat, _argument: str) -> None:
    """Keep this conversation although the chat was started with --no-save."""
    chat.session.start_saving(chat.history)
    chat.console.note(
        _("This conversation is kept in the history: {id}").format(
            id=chat.conversation.id[: chat.history.id_digits()]
        )
    )


def export(chat: Chat, argument: str) -> None:
    """Write the conversation to a file; the format follows the suffix."""
    if not argument:
        raise InputError(_("/export needs a file name."), hint="/export chat.md")
    path = expand_home(argument)
    try:
        chosen = format_of(path)
    except ValueError as exc:
        raise InputError(str(exc), hint=f"/export {path.with_suffix('.md').name}") from exc
    write_export(path, export_text([chat.conversation], format=chosen))
    chat.console.note(_("Written: {path}").format(path=path))

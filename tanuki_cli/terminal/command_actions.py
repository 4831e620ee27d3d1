"""What the slash commands do. Each takes the chat and the rest of the line."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from tanuki_cli.conversation import Conversation, Node
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import LANGUAGES, _, activate, active_language
from tanuki_cli.practice import suggestions
from tanuki_cli.prompt import SYSTEM_TEXT, guard_markers
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings import find_spec, parse_value
from tanuki_cli.terminal.chat import Chat
from tanuki_cli.terminal.clipboard import copy_text, read_clipboard
from tanuki_cli.terminal.editor import edit_text
from tanuki_cli.terminal.sanitize import sanitize
from tanuki_cli.terminal.width import cell_width, truncate_cells
from tanuki_cli.text_files import read_text_file

_CODE_BLOCK: Final = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
SAMPLING_KEYS: Final = tuple(name for name in SamplingOptions.__dataclass_fields__ if name != "stop")


def show(chat: Chat, text: str) -> None:
    """Print what a command was asked for, on stderr, also with --quiet."""
    chat.console.err.print(sanitize(text), soft_wrap=True)


def show_rows(chat: Chat, rows: list[tuple[str, str]]) -> None:
    """Print two columns, aligned in cells."""
    width = max((cell_width(left) for left, _right in rows), default=0)
    for left, right in rows:
        show(chat, f"  {left}{' ' * (width - cell_width(left))}  {right}")


def show_keys(chat: Chat) -> None:
    """Print the keys of the prompt."""
    newline = _("send") if chat.settings.enter == "newline" else _("break the line")
    enter = _("break the line") if chat.settings.enter == "newline" else _("send")
    show(chat, "")
    show_rows(
        chat,
        [
            ("Enter", enter),
            ("Alt-Enter", newline),
            ("Ctrl-J", _("break the line")),
            ("↑ ↓ Ctrl-R", _("past input, and search in it")),
            ("Ctrl-C", _("stop the answer; at the prompt, clear the line, twice leaves")),
            ("Ctrl-D", _("leave")),
            ("Ctrl-X Ctrl-E", _("edit the message in $EDITOR")),
            ("Tab", _("complete")),
        ],
    )


def show_suggestions(chat: Chat) -> None:
    """Print what the practice model can be asked; nothing for any other model."""
    if not chat.model.practice:
        return
    show(chat, "")
    show(chat, _("The practice model knows for example:"))
    for question in suggestions(active_language()):
        show(chat, f"  {question}")


def leave(chat: Chat, _argument: str) -> None:
    """Leave the chat."""
    chat.leaving = True


def new(chat: Chat, _argument: str) -> None:
    """Begin a new conversation with the same model and settings."""
    chat.start(Conversation(system=chat.conversation.system))
    chat.console.note(_("New conversation."))


def retry(chat: Chat, _argument: str) -> None:
    """Answer the last question again."""
    chat.retry()


def undo(chat: Chat, _argument: str) -> None:
    """Take the last turn out of the path; it stays in the tree."""
    question = chat.conversation.last("user")
    if question is None:
        raise InputError(_("There is nothing to undo."))
    chat.session.move_tip(question.parent_id)
    chat.next_input = question.message.content
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
    if question is None or question.message.role != "user":
        raise InputError(_("There is no question to edit."), hint=_("/history lists the numbers"))
    text = edit_text(question.message.content)
    if text is None or text.strip() in {"", question.message.content.strip()}:
        chat.console.note(_("Nothing was changed."))
        return
    chat.session.move_tip(question.parent_id)
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
    for node in nodes:
        mark = "*" if node.id in path else " "
        speaker = _("you") if node.message.role == "user" else _("model")
        label = f"{mark} {numbers[node.id]:>3} {'  ' * _fork_depth(chat.conversation, node)}{speaker}: "
        room = max(chat.console.err.width - cell_width(label) - 1, 8)
        show(chat, label + truncate_cells(sanitize(" ".join(node.message.content.split())), room))


def _fork_depth(conversation: Conversation, node: Node) -> int:
    """How many of the node and its ancestors are not the first among their siblings."""
    depth = 0
    current: Node | None = node
    while current is not None:
        depth += conversation.siblings(current.id)[0].id != current.id
        current = conversation.nodes[current.parent_id] if current.parent_id else None
    return depth


def system(chat: Chat, argument: str) -> None:
    """Show or set the system text of this conversation."""
    if not argument:
        show(chat, chat.conversation.system or SYSTEM_TEXT)
        return
    chat.conversation.system = None if argument == "-" else argument
    chat.session.save_conversation()
    if argument == "-":
        chat.console.note(_("The model's own system text is used again."))
    else:
        chat.console.note(
            _(
                "Tanuki was trained with its own system text only; "
                "personas and details work better inside the question."
            )
        )


def model(chat: Chat, argument: str) -> None:
    """Show or change the model; the conversation goes on."""
    if argument:
        chat.change_model(argument)
    info = chat.model.engine.info
    show(chat, f"{info.model} · {info.engine} · {info.device}")


def set_option(chat: Chat, argument: str) -> None:
    """Change a sampling option of this chat. Raises InputError that names the range."""
    key, _space, text = argument.partition(" ")
    if not key or not text.strip():
        raise InputError(_("/set needs a name and a value."), hint="/set temperature 0.7")
    spec = find_spec(key)
    if spec.key not in SAMPLING_KEYS:
        raise InputError(
            _("{key} cannot be changed inside a chat.").format(key=spec.key),
            hint=f"tanuki config set {spec.key} …",
        )
    try:
        value = parse_value(spec, text.strip())
    except ValueError as exc:
        raise InputError(str(exc), hint=f"/set {spec.key} …") from exc
    chat.set_sampling(replace(chat.session.options, **{spec.key: value}))  # type: ignore[arg-type]
    chat.console.note(f"{spec.key} = {value}")


def params(chat: Chat, _argument: str) -> None:
    """Show the sampling options, the model and the context length."""
    options = chat.session.options
    rows = [
        (key, str(getattr(options, key)) if getattr(options, key) is not None else "-")
        for key in SAMPLING_KEYS
    ]
    rows.append(("stop", ", ".join(map(repr, options.stop)) or "-"))
    rows.append(("context_length", str(chat.model.engine.context_length)))
    rows.append(("model", chat.model.engine.info.model))
    show_rows(chat, rows)


def search(chat: Chat, argument: str) -> None:
    """List the messages of all conversations that contain the text."""
    if not argument:
        raise InputError(_("/search needs a text."), hint="/search たぬき")
    hits = chat.history.search(argument, limit=20)
    if not hits:
        chat.console.note(_("Nothing was found."))
    for hit in hits:
        room = max(chat.console.err.width - 14, 8)
        show(chat, f"  {hit.conversation_id[:8]}  {truncate_cells(sanitize(hit.excerpt), room)}")


def resume(chat: Chat, argument: str) -> None:
    """List the newest conversations, or go on with one."""
    if argument:
        chat.start(chat.history.load(argument))
        chat.console.note(
            _("Going on with “{title}”, {count} messages.").format(
                title=chat.conversation.title, count=len(chat.conversation.path_nodes())
            )
        )
        return
    for summary in chat.history.list(limit=20):
        title_room = max(chat.console.err.width - 14, 8)
        show(chat, f"  {summary.id[:8]}  {truncate_cells(sanitize(summary.title), title_room)}")


def title(chat: Chat, argument: str) -> None:
    """Show or set the title."""
    if argument:
        chat.conversation.title = argument
        chat.session.save_conversation()
    show(chat, chat.conversation.title or _("(no title yet)"))


def save(chat: Chat, _argument: str) -> None:
    """Keep this conversation although the chat was started with --no-save."""
    chat.session.start_saving(chat.history)
    chat.console.note(_("This conversation is kept in the history: {id}").format(id=chat.conversation.id[:8]))


def export(chat: Chat, argument: str) -> None:
    """Write the conversation to a file; the format follows the suffix."""
    if not argument:
        raise InputError(_("/export needs a file name."), hint="/export chat.md")
    path = Path(argument).expanduser()
    chat.history.export_file(chat.conversation, path)
    chat.console.note(_("Written: {path}").format(path=path))


def copy(chat: Chat, argument: str) -> None:
    """Copy the last answer, or with ``code`` its last code block."""
    answer = chat.conversation.last("assistant")
    if answer is None:
        raise InputError(_("There is no answer to copy yet."))
    text = answer.message.content
    if argument == "code":
        blocks = [match.group(2) for match in _CODE_BLOCK.finditer(text)]
        if not blocks:
            raise InputError(_("The last answer has no code block."), hint="/copy")
        text = blocks[-1]
    copy_text(text, chat.console)
    chat.console.note(_("Copied {count} characters.").format(count=len(text)))


def attach_file(chat: Chat, argument: str) -> None:
    """Add a text file to the next message."""
    if not argument:
        raise InputError(_("/file needs a file name."), hint="/file README.md")
    path = Path(argument).expanduser()
    _attach(chat, f"{path.name}:\n```\n{read_text_file(path).strip(chr(10))}\n```", str(path))


def paste(chat: Chat, _argument: str) -> None:
    """Add the clipboard to the next message."""
    _attach(chat, read_clipboard(), _("the clipboard"))


def _attach(chat: Chat, text: str, name: str) -> None:
    guarded, changed = guard_markers(text)
    chat.attachments.append(guarded)
    chat.console.note(
        _("{name} ({count} characters) goes with the next message.").format(name=name, count=len(guarded))
    )
    if changed:
        chat.console.note(
            _(
                "{count} line(s) in {name} look like a turn of the prompt format; "
                "a backslash was put before them."
            ).format(count=changed, name=name)
        )


def context(chat: Chat, _argument: str) -> None:
    """Show which messages the model sees, and how full the context is."""
    messages = chat.conversation.path()
    if not chat.conversation.path_nodes():
        chat.console.note(_("This conversation is still empty."))
        return
    plan = chat.model.engine.plan(messages, chat.session.options)
    for message in plan.messages:
        label = {"user": _("you"), "assistant": _("model"), "system": _("system")}[message.role]
        room = max(chat.console.err.width - cell_width(label) - 5, 8)
        show(chat, f"  {label}: {truncate_cells(sanitize(' '.join(message.content.split())), room)}")
    used = "?" if plan.prompt_tokens is None else str(plan.prompt_tokens)
    show(
        chat,
        _("{used} of {limit} prompt tokens; {dropped} older messages are left out.").format(
            used=used, limit=plan.limit, dropped=plan.dropped
        ),
    )


def stats(chat: Chat, argument: str) -> None:
    """Switch the statistics line."""
    chat.show_statistics = {"on": True, "off": False}.get(argument, not chat.show_statistics)
    chat.console.note(_("Statistics are on.") if chat.show_statistics else _("Statistics are off."))


def clear(chat: Chat, _argument: str) -> None:
    """Clear the screen, not the conversation."""
    if chat.console.err_can_move_cursor:
        chat.console.streams.stderr.write("\x1b[2J\x1b[H")
        chat.console.streams.stderr.flush()


def lang(chat: Chat, argument: str) -> None:
    """Change the language of the messages."""
    for language in LANGUAGES:
        if argument.lower() == language:
            activate(language)
            chat.console.note(_("Messages are in English now."))
            return
    raise InputError(_("The languages are ja and en."), hint="/lang ja")

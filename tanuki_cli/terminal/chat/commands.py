"""The slash commands of a chat: one table, from which help, completion and the README are made."""

import re
from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import fold
from tanuki_cli.terminal.chat import attachment_commands, conversation_commands, program_commands
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.help import help_lines
from tanuki_cli.terminal.pager import show_long
from tanuki_cli.text.suggestions import suggest

Completes = Literal[
    "",
    "command",
    "model",
    "setting",
    "conversation",
    "path",
    "persona",
    "attachment",
    "node",
    "language",
    "switch",
]


class Command(Struct, frozen=True, kw_only=True):
    """One slash command; ``summary`` and ``argument`` are message ids."""

    name: str
    run: Callable[[Chat, str], None]
    summary: str
    argument: str = ""
    completes: Completes = ""

    @property
    def usage(self) -> str:
        """As it is typed, e.g. ``/model [MODEL]``."""
        return f"/{self.name} {_(self.argument)}" if self.argument else f"/{self.name}"


def _help(chat: Chat, argument: str) -> None:
    if argument:
        command = find_command(argument.lstrip("/"))
        program_commands.show_rows(chat, [(command.usage, _(command.summary))])
        return
    rows = [(command.usage, _(command.summary)) for command in COMMANDS]
    show_long(chat.console, list(help_lines(chat, rows)))


COMMANDS: Final[tuple[Command, ...]] = (
    Command(
        name="help", run=_help, argument=N_("[COMMAND]"), summary=N_("show this help"), completes="command"
    ),
    Command(name="exit", run=program_commands.leave, summary=N_("leave; Ctrl-D does too")),
    Command(name="new", run=conversation_commands.new, summary=N_("begin a new conversation")),
    Command(name="retry", run=conversation_commands.retry, summary=N_("answer the last question again")),
    Command(
        name="continue", run=conversation_commands.continue_, summary=N_("continue an answer that was cut")
    ),
    Command(name="undo", run=conversation_commands.undo, summary=N_("take the last turn back")),
    Command(
        name="edit",
        run=conversation_commands.edit,
        argument=N_("[N]"),
        summary=N_("edit question N (the last one) and ask it again"),
        completes="node",
    ),
    Command(
        name="branch",
        run=conversation_commands.branch,
        argument=N_("[N]"),
        summary=N_("list the other answers, or go to message N"),
        completes="node",
    ),
    Command(
        name="system",
        run=program_commands.system,
        argument=N_("[TEXT|-]"),
        summary=N_("show or set the system prompt; - restores it"),
    ),
    Command(
        name="persona",
        run=program_commands.persona,
        argument=N_("[NAME|-]"),
        summary=N_("show or set a persona, by its name or as a text; - removes it"),
        completes="persona",
    ),
    Command(
        name="model",
        run=program_commands.model,
        argument=N_("[MODEL]"),
        summary=N_("show or change the model"),
        completes="model",
    ),
    Command(
        name="set",
        run=program_commands.set_option,
        argument=N_("[KEY VALUE]"),
        summary=N_("list or change settings of this chat; - takes one back"),
        completes="setting",
    ),
    Command(name="params", run=program_commands.params, summary=N_("show the settings of this chat")),
    Command(
        name="history",
        run=conversation_commands.tree,
        summary=N_("show the messages of this conversation as a tree"),
    ),
    Command(
        name="search",
        run=conversation_commands.search,
        argument=N_("TEXT"),
        summary=N_("search all conversations"),
    ),
    Command(
        name="resume",
        run=conversation_commands.resume,
        argument=N_("[NUMBER|ID]"),
        summary=N_("list the conversations, or go on with one"),
        completes="conversation",
    ),
    Command(
        name="title",
        run=conversation_commands.title,
        argument=N_("[TEXT]"),
        summary=N_("show or set the title"),
    ),
    Command(
        name="save",
        run=conversation_commands.save,
        summary=N_("keep this conversation in the history from now on"),
    ),
    Command(
        name="export",
        run=conversation_commands.export,
        argument=N_("PATH"),
        summary=N_("write the conversation to a .md, .json or .jsonl file"),
        completes="path",
    ),
    Command(
        name="copy",
        run=program_commands.copy,
        argument=N_("[code]"),
        summary=N_("copy the last answer, or its last code block"),
    ),
    Command(
        name="file",
        run=attachment_commands.attach_file,
        argument=N_("[PATH|-]"),
        summary=N_("add a text file to the next message; - drops what was added"),
        completes="attachment",
    ),
    Command(name="paste", run=attachment_commands.paste, summary=N_("add the clipboard to the next message")),
    Command(name="context", run=program_commands.context, summary=N_("show what the model sees")),
    Command(
        name="stats",
        run=program_commands.stats,
        argument="[on|off]",
        summary=N_("show speed and token counts after each answer"),
        completes="switch",
    ),
    Command(name="clear", run=program_commands.clear, summary=N_("clear the screen")),
    Command(
        name="lang",
        run=program_commands.lang,
        argument="[ja|en]",
        summary=N_("change the language of the messages"),
        completes="language",
    ),
)
_BY_NAME: Final = {command.name: command for command in COMMANDS}
_OTHER_NAMES: Final = {"?": "help", "quit": "exit", "q": "exit", "bye": "exit"}
"""What other chats call them; understood, but neither listed nor completed."""
HABITS: Final = {
    **dict.fromkeys(("regenerate", "regen", "again", "redo"), "retry"),
    **dict.fromkeys(("reset", "restart"), "new"),
    **dict.fromkeys(("list", "sessions", "conversations", "load", "chats"), "resume"),
    **dict.fromkeys(("read", "attach", "open", "add", "upload"), "file"),
    **dict.fromkeys(("show", "info", "config", "settings", "options"), "params"),
    **dict.fromkeys(("temperature", "temp", "seed", "top", "max"), "set"),
    **dict.fromkeys(("delete", "rm", "remove"), "tanuki history rm"),
    **dict.fromkeys(("tokens", "usage"), "context"),
    **dict.fromkeys(("write", "dump"), "export"),
    **dict.fromkeys(("prompt", "instructions"), "system"),
    **dict.fromkeys(("role", "character"), "persona"),
    "find": "search",
    "tree": "history",
    "back": "undo",
    "rename": "title",
    "cls": "clear",
    **{name: f"tanuki {name}" for name in ("pull", "serve", "batch", "bench", "doctor", "ps", "arena")},
}
"""What other chats offer by another name; said as a suggestion."""


_LINE: Final = re.compile(r"[/／](?:([A-Za-z?Ａ-Ｚａ-ｚ？]+)(?:[^\S\r\n](.*))?)?")
_TEXT: Final = ("", "path", "attachment")
"""Arguments of which every full-width space counts; others are names, and typed with an input method, too."""


def is_command(text: str) -> bool:
    """Whether ``text`` is a slash command: one line, a word of letters, and then a blank or the end.

    So paths, comments and anything of several lines that begins with a slash are messages.
    """
    return _LINE.fullmatch(text.rstrip("\r\n")) is not None


def as_message(text: str) -> str:
    """What is sent of ``text``, which is no command: ``//word`` is how ``/word`` is sent."""
    return text[1:] if text.startswith(("/", "／")) and is_command(text[1:]) else text


def find_command(name: str, *, hint: str = "/help") -> Command:
    """The command ``name``. Raises InputError with the nearest one, or with ``hint`` if none is near."""
    name = fold(name).lower()
    if command := _BY_NAME.get(_OTHER_NAMES.get(name, name)):
        return command
    near = suggest(name, _BY_NAME, habits=HABITS)
    meant = near if near is None or near.startswith("tanuki ") else f"/{near}"
    raise InputError(
        _("There is no command /{name}.").format(name=name),
        hint=_("Did you mean {key}?").format(key=meant) if meant else hint,
    )


def run_command(chat: Chat, line: str) -> None:
    """Run the slash command ``line``. Raises TanukiError; the chat goes on."""
    match = _LINE.fullmatch(line.rstrip("\r\n"))
    word, argument = match.groups("") if match else ("", "")
    hint = _("/help (a message that begins with / is sent with //)")
    command = find_command(word, hint=hint)
    argument = argument.strip(" \t" if command.completes in _TEXT else None)
    if argument and not command.argument:
        # /save PATH is what other chats call /export.
        meant = f"/export {argument}" if command.name == "save" else f"/{command.name}"
        raise InputError(_("/{name} takes nothing after it.").format(name=command.name), hint=meant)
    command.run(chat, argument)

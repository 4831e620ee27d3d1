"""Slash commands that act on the program: model, settings, clipboard, screen.

Each takes the chat and the rest of the line. Those that act on the messages are in
:mod:`~tanuki_cli.terminal.chat.conversation_commands`.
"""

import re
from typing import Final

from msgspec.structs import replace

from tanuki_cli.conversation import Node
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import LANGUAGES, _, activate, active_language, plural
from tanuki_cli.options import OptionSpec, asks_for_default, fold, format_value, is_dash, parse_value
from tanuki_cli.prompt import SYSTEM_TEXT, guard_markers, guarded
from tanuki_cli.sampling import SAMPLING_SPECS
from tanuki_cli.settings.specs import find_spec
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.clipboard import copy_text
from tanuki_cli.terminal.chat.help import row_lines
from tanuki_cli.terminal.first_run.background_pull import describe_pull
from tanuki_cli.terminal.first_run.takeover import tell_failure
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.width import cell_width, truncate_cells

OWN_COMMANDS: Final = ("system", "persona", "model", "stats", "lang", "title")
"""What has a slash command of its own."""
_CODE_BLOCK: Final = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)


def show(chat: Chat, text: str) -> None:
    """Print what a command was asked for, on stderr, also with --quiet."""
    chat.console.err.print(sanitize(text), soft_wrap=True)


def speaker(node: Node) -> str:
    """Who said it: the user, or the model by its name."""
    if node.message.role == "user":
        return _("you")
    return sanitize(node.generation.model) if node.generation else _("model")


def split_word(argument: str) -> tuple[str, str]:
    """The first word and the rest; a full-width space parts them as well as a half-width one."""
    word, *rest = argument.split(maxsplit=1) or [""]
    return word, "".join(rest)


def show_rows(chat: Chat, rows: list[tuple[str, str]]) -> None:
    """Print two columns, aligned in cells; on a terminal the right one wraps inside its column."""
    for line in row_lines(rows, columns=chat.console.err.width if chat.console.err_is_terminal else None):
        show(chat, line)


def leave(chat: Chat, _argument: str) -> None:
    """Leave the chat."""
    chat.leaving = True


def system(chat: Chat, argument: str) -> None:
    """Show or set the system prompt of this conversation."""
    if not argument:
        show(chat, chat.conversation.system or SYSTEM_TEXT)
        return
    chat.conversation.system = None if is_dash(argument) else argument
    chat.session.save_conversation()
    if is_dash(argument):
        chat.console.note(_("The model's own system prompt is used again."))
    else:
        chat.console.note(
            _(
                "Tanuki was trained with its own system prompt only; "
                "personas and details work better inside the question."
            )
        )
        chat.console.note(_("For a persona: /persona TEXT puts it before every question."))


def persona(chat: Chat, argument: str) -> None:
    """Show or set the text that is put before every question of this conversation; a name stands for the
    text that is kept under it.
    """
    names = chat.personas.names()
    if not argument:
        show(chat, chat.conversation.settings.persona or _("No persona is set."))
        chat.console.note(_("/persona NAME chooses one: {names}").format(names=" ".join(names)))
    elif is_dash(argument):
        chat.session.set_persona(None)
        chat.console.note(_("The persona is removed."))
    elif fold(argument).casefold() in {name.casefold() for name in names}:
        found = chat.personas.find(argument)
        chat.session.set_persona(guarded(found.text, name=found.name, note=chat.console.note))
        chat.console.note(_("The model now sees this before every question:"))
        show(chat, found.text)
    else:
        chat.session.set_persona(guard_markers(argument)[0])
        chat.console.note(_("The model now sees this text before every question; /context shows it."))


def model(chat: Chat, argument: str) -> None:
    """Show or change the model; the conversation goes on."""
    if chat.download is not None and argument == chat.download.name and chat.download.running:
        chat.console.note(
            _("{name} is still on its way: {state}").format(
                name=argument, state=" · ".join(describe_pull(chat.download))
            )
        )
        return
    tell_failure(chat)
    if argument:
        chat.change_model(argument)
    info = chat.model.engine.info
    show(chat, f"{info.model} · {info.engine} · {info.device}")


def set_option(chat: Chat, argument: str) -> None:
    """Change a sampling option of this chat, or take it back with ``-``; without a value show it, without a
    name all. Raises InputError that names the range.
    """
    key, text = split_word(argument)
    if not key:
        rows = [(f"{spec.key} = {_shown(chat, spec)}", _(spec.help)) for spec in SAMPLING_SPECS]
        show_rows(chat, rows)
        return
    if (command := fold(key).lower()) in OWN_COMMANDS:
        raise InputError(
            _("{key} is not changed by /set.").format(key=command), hint=f"/{command} {text}".rstrip()
        )
    spec = find_spec(key, all_keys="/set")
    if spec not in SAMPLING_SPECS:
        raise InputError(
            _("{key} cannot be changed inside a chat.").format(key=spec.key),
            hint=f"tanuki config set {spec.key} …",
        )
    if is_dash(text):
        chat.set_sampling(replace(chat.session.options, **{spec.key: getattr(chat.configured, spec.key)}))
    elif text:
        try:
            value = parse_value(spec, text)
        except ValueError as exc:
            example = "-" if asks_for_default(text) else spec.example
            raise InputError(str(exc), hint=f"/set {spec.key} {example}") from exc
        chat.set_sampling(replace(chat.session.options, **{spec.key: value}))
    chat.console.note(f"{spec.key} = {_shown(chat, spec)}")


def _shown(chat: Chat, spec: OptionSpec) -> str:
    return format_value(getattr(chat.session.options, spec.key)) or "-"


def params(chat: Chat, _argument: str) -> None:
    """Show the sampling options, the model and the context length."""
    rows = [(spec.key, _shown(chat, spec)) for spec in SAMPLING_SPECS]
    rows.append(("context_length", str(chat.model.engine.context_length)))
    rows.append(("model", chat.model.engine.info.model))
    rows.append(("persona", chat.conversation.settings.persona or "-"))
    show_rows(chat, rows)


def copy(chat: Chat, argument: str) -> None:
    """Copy the last answer, or with ``code`` its last code block."""
    answer = chat.conversation.last("assistant")
    if answer is None:
        raise InputError(_("There is no answer to copy yet."), hint="/help copy")
    text = answer.message.content
    if fold(argument).lower() == "code":
        blocks = [match.group(2) for match in _CODE_BLOCK.finditer(text)]
        if not blocks:
            raise InputError(_("The last answer has no code block."), hint="/copy")
        text = blocks[-1]
    copy_text(text, chat.console)
    chat.console.note(
        plural(len(text), "Copied {count} character.", _("Copied {count} characters.")).format(
            count=len(text)
        )
    )


def context(chat: Chat, _argument: str) -> None:
    """Show which messages the model sees, and how full the context is."""
    if chat.conversation.tip is None:
        chat.console.note(_("This conversation is still empty."))
        return
    plan = chat.model.engine.plan(chat.session.prompt_messages(), chat.session.options)
    # Those that stayed are the last of the path; a system prompt is no node.
    spoken = len([message for message in plan.messages if message.role != "system"])
    speakers = [speaker(node) for node in chat.conversation.path_nodes()[-spoken:]]
    for message in plan.messages:
        label = _("system") if message.role == "system" else speakers.pop(0)
        room = max(chat.console.err.width - cell_width(label) - 5, 8)
        show(chat, f"  {label}: {truncate_cells(sanitize(' '.join(message.content.split())), room)}")
    used = "?" if plan.prompt_tokens is None else str(plan.prompt_tokens)
    show(
        chat,
        _("Input {used}/{limit} tokens (the other {rest} are for the answer).").format(
            used=used, limit=plan.limit, rest=chat.model.engine.context_length - plan.limit
        ),
    )
    if plan.dropped:
        show(
            chat,
            plural(
                plan.dropped,
                "The oldest message no longer fits, and is left out.",
                _("The oldest {count} messages no longer fit, and are left out."),
            ).format(count=plan.dropped),
        )


def stats(chat: Chat, argument: str) -> None:
    """Switch the statistics line. Raises InputError for anything but on and off."""
    switch = fold(argument).lower()
    if switch not in {"", "on", "off"}:
        raise InputError(_("/stats takes on or off."), hint="/stats on")
    chat.show_statistics = not chat.show_statistics if not switch else switch == "on"
    chat.console.note(_("Statistics are on.") if chat.show_statistics else _("Statistics are off."))


def clear(chat: Chat, _argument: str) -> None:
    """Clear the screen, not the conversation."""
    if chat.console.err_can_move_cursor:
        chat.console.streams.stderr.write("\x1b[2J\x1b[H")
        chat.console.streams.stderr.flush()


def lang(chat: Chat, argument: str) -> None:
    """Tell or change the language of the messages."""
    if not argument:
        others = " ".join(f"/lang {language}" for language in LANGUAGES if language != active_language())
        chat.console.note(_("Messages are in English. Change: {commands}").format(commands=others))
        return
    for language in LANGUAGES:
        if fold(argument).lower() == language:
            activate(language)
            chat.console.note(_("Messages are in English now."))
            return
    raise InputError(_("The languages are ja and en."), hint="/lang ja")

"""Which conversation a command works in, and whether it is kept."""

from msgspec.structs import replace

from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.options import ChatOptions, apply_options
from tanuki_cli.conversation import Conversation
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.i18n import _
from tanuki_cli.options import is_dash
from tanuki_cli.prompt import guarded
from tanuki_cli.settings.personas import PersonaStore
from tanuki_cli.settings.values import Settings, in_range


def open_history(context: CommandContext) -> HistoryStore:
    """The history of this user; nothing is created before the first write."""
    return HistoryStore(context.directories.history_file, notify=context.console.warn)


def starting_conversation(context: CommandContext, options: ChatOptions, store: HistoryStore) -> Conversation:
    """A new conversation, or the one that ``--continue`` or ``--resume`` names.

    Raises InputError if both are given or the id is empty, HistoryError if there is no such conversation.
    """
    if options.continue_last and options.resume is not None:
        raise InputError(
            _("--continue and --resume cannot be used together."), hint=f"{context.command} --continue"
        )
    if options.resume is not None:
        if not options.resume.strip():
            raise InputError(_("--resume needs the id of a conversation."), hint="tanuki history list")
        conversation = store.find(options.resume)
    elif options.continue_last:
        latest = store.latest()
        if latest is None:
            raise HistoryError(_("There is no conversation to continue yet."), hint="tanuki chat")
        conversation = latest
    else:
        conversation = Conversation()
    if context.settings.system is not None:
        conversation.system = context.settings.system
    if options.names("persona") or not conversation.nodes:
        persona = chosen_persona(context)
        conversation.settings = replace(conversation.settings, persona=persona)
    if conversation.system is not None:
        context.console.note(
            _(
                "Tanuki was trained with its own system prompt only; "
                "personas and details work better inside the question."
            )
        )
    return conversation


def chosen_persona(context: CommandContext) -> str | None:
    """The text of the persona that the settings name, as it may go into a prompt; ``-`` names none.

    Raises InputError if there is no such persona, SettingsError if its file cannot be read.
    """
    name = context.settings.persona
    if not name or is_dash(name):
        return None
    found = PersonaStore(context.directories.personas).find(name)
    return guarded(found.text, name=found.name, note=context.console.note)


def resumed_settings(context: CommandContext, options: ChatOptions, conversation: Conversation) -> Settings:
    """The settings to go on with: those of the conversation, with this command line's over them.

    A new conversation has the settings of the context.
    """
    if not conversation.nodes:
        return context.settings
    kept = conversation.settings
    settings = replace(context.settings, model=kept.model, sampling=in_range(kept.sampling))
    if kept.context_length is not None:
        settings = replace(settings, context_length=kept.context_length)
    return apply_options(settings, options)


def warn_history_failed(context: CommandContext, error: HistoryError) -> None:
    """Say once that this chat is not being kept."""
    context.console.warn(_("This conversation is not being saved: {reason}").format(reason=error.message))
    if error.hint:
        context.console.note(error.hint)

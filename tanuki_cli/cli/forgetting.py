"""Remove conversations, and what is left of them beside the history: typed lines and computed prompts."""

from collections.abc import Iterator, Sequence
from functools import partial

from tanuki_cli.cli.context import CommandContext
from tanuki_cli.conversation import Conversation
from tanuki_cli.engines.opening import forget_prompts
from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.history import HistoryStore, set_aside_files
from tanuki_cli.i18n import _, plural


def remove_conversations(
    context: CommandContext, store: HistoryStore, ids: Sequence[str], *, yes: bool
) -> None:
    """Remove the conversations that ``ids`` begin, each after a question unless ``yes``."""
    conversations = {one.id: one for one in map(store.load, ids)}
    chosen = [
        one
        for one in conversations.values()
        if yes
        or _confirmed(
            context,
            plural(
                len(one.nodes),
                "Remove “{title}” with its {count} message?",
                _("Remove “{title}” with its {count} messages?"),
            ).format(title=_name(one), count=len(one.nodes)),
            command=f"tanuki history rm --yes {one.id}",
        )
    ]
    if not chosen:
        context.console.note(_("Nothing was removed."))
        return
    _remove(context, store, chosen)
    for conversation in chosen:
        context.console.note(_("Removed: {title}").format(title=_name(conversation)))


def remove_everything(context: CommandContext, store: HistoryStore, *, yes: bool) -> None:
    """Remove all conversations and all past input, after one question unless ``yes``."""
    conversations = [store.load(one.id) for one in store.list()]
    question = _("Remove all conversations ({count}) and all past input?").format(count=len(conversations))
    if not (yes or _confirmed(context, question, command="tanuki history rm --all --yes")):
        context.console.note(_("Nothing was removed."))
        return
    _remove(context, store, conversations, all_input=True)
    context.console.note(_("All conversations were removed ({count}).").format(count=len(conversations)))


def _remove(
    context: CommandContext,
    store: HistoryStore,
    conversations: Sequence[Conversation],
    *,
    all_input: bool = False,
) -> None:
    try:
        store.delete(*(conversation.id for conversation in conversations))
    finally:
        _forget_traces(context, conversations, all_input=all_input)


def _confirmed(context: CommandContext, question: str, *, command: str) -> bool:
    """The user's answer; ``command`` is the one that does not ask."""
    if not context.console.can_ask:
        raise InputError(_("Removing needs --yes where nobody can be asked."), hint=command)
    return context.console.confirm(question, default=False)


def _name(conversation: Conversation) -> str:
    return conversation.title or conversation.id


def _forget_traces(
    context: CommandContext, conversations: Sequence[Conversation], *, all_input: bool
) -> None:
    """Remove what else was kept of ``conversations``, and tell what has to be removed by hand."""
    # Neither is needed for anything else here.
    from tanuki_cli.cli.warm import end_model
    from tanuki_cli.terminal.chat.input_history import forget_input

    end_model(context)  # its memory holds prompts, and might go to the disk later
    directories, console = context.directories, context.console
    texts = [text for conversation in conversations for text in _texts(conversation)]
    for path, forget in (
        (directories.input_history_file, partial(forget_input, texts=None if all_input else texts)),
        (directories.cache, forget_prompts),
    ):
        try:
            forget(path)
        except OSError as exc:
            console.warn(
                _("Parts of it may be left in {path}: {reason}").format(
                    path=exc.filename or path, reason=os_reason(exc)
                )
            )
    for path in set_aside_files(directories.history_file):
        console.warn(
            _(
                "The damaged history {path} may still hold it; delete that file if nothing in it is needed."
            ).format(path=path)
        )


def _texts(conversation: Conversation) -> Iterator[str]:
    for node in conversation.nodes.values():
        if node.message.role != "assistant":
            yield node.message.content
    yield conversation.title
    yield conversation.system or ""
    yield conversation.settings.persona or ""

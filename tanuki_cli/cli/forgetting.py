"""What is left of a removed conversation beside the history: typed lines and computed prompts."""

from collections.abc import Iterator, Sequence
from functools import partial

from tanuki_cli.cli.context import CommandContext
from tanuki_cli.conversation import Conversation
from tanuki_cli.engines.opening import forget_prompts
from tanuki_cli.files import os_reason
from tanuki_cli.history import set_aside_files
from tanuki_cli.i18n import _


def forget_traces(context: CommandContext, conversations: Sequence[Conversation]) -> None:
    """Remove what else was kept of ``conversations``, and tell what has to be removed by hand."""
    # Neither is needed for anything else here.
    from tanuki_cli.cli.warm import end_model
    from tanuki_cli.terminal.chat.input_history import forget_input

    end_model(context)  # its memory holds prompts, and might go to the disk later
    directories, console = context.directories, context.console
    texts = [text for conversation in conversations for text in _texts(conversation)]
    for path, forget in (
        (directories.input_history_file, partial(forget_input, texts=texts)),
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

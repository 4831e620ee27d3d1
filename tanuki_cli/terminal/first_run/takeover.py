"""From the practice model to the real one: what a chat does with a download in the background."""

from typing import Protocol

from tanuki_cli.conversation import Conversation
from tanuki_cli.errors import InterruptedByUser, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible
from tanuki_cli.loading import LoadedModel
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.first_run.background_pull import BackgroundPull


class FirstChat(Protocol):
    """The chat, as far as a first run concerns it."""

    console: Console
    model: LoadedModel
    download: BackgroundPull | None
    leaving: bool

    @property
    def conversation(self) -> Conversation:
        """The conversation that the next message goes to."""

    @property
    def model_was_chosen(self) -> bool:
        """Whether the user has changed the model since the chat began."""

    def change_model(self, reference: str) -> None:
        """Load another model and go on with the same conversation."""

    def show_last_turn(self) -> None:
        """Print where a conversation stands that is gone on with."""


def take_over(chat: FirstChat, *, sending: bool = False) -> None:
    """Let the model answer from now on whose download has ended meanwhile; nothing while it runs.

    A failure is told once, and the practice model stays; so does a model that the user chose. With a
    message on its way (``sending``) a failure waits for the next prompt: it is no part of the answer.
    """
    pull = chat.download
    if pull is None:
        return
    pull.poll()
    if pull.running or (sending and pull.error is not None):
        return
    chat.download = None
    if pull.error is not None:
        chat.console.error(pull.error)
    elif chat.model_was_chosen:
        chat.console.note(_("{name} is here: /model {name}").format(name=pull.name), style="success")
    else:
        _change(chat, pull.name)


def tell_failure(chat: FirstChat) -> None:
    """Say why the download failed, if it did."""
    pull = chat.download
    if pull is not None:
        pull.poll()
        if pull.error is not None:
            chat.download = None
            chat.console.error(pull.error)


def _change(chat: FirstChat, name: str) -> None:
    chat.console.note(_("{name} is downloaded and is being loaded.").format(name=name))
    try:
        with interruptible():
            chat.change_model(name)
    except KeyboardInterrupt:
        chat.console.note(_("Interrupted. Later: /model {name}").format(name=name))
    except TanukiError as error:
        chat.console.error(error)
        chat.console.note(_("{model} goes on answering.").format(model=chat.model.engine.info.model))
    else:
        info = chat.model.engine.info
        chat.console.note(f"{info.model} · {info.engine} · {info.device}")
        chat.console.note(_("{name} answers from now on.").format(name=name), style="success")


def may_leave(chat: FirstChat) -> bool:
    """Whether the user, who asked to leave, still wants to: a download would end with the chat."""
    pull = chat.download
    if pull is None:
        return True
    pull.poll()
    if not pull.running:
        return True
    if chat.console.can_ask and not _wants_to_stop(chat, pull):
        chat.leaving = False
        return False
    pull.stop()
    chat.console.note(
        _("The download stopped at {percent} %. Nothing received is lost; it resumes with:").format(
            percent=pull.state.percent
        )
    )
    chat.console.note(f"  tanuki pull {pull.name}")
    return True


def _wants_to_stop(chat: FirstChat, pull: BackgroundPull) -> bool:
    try:
        with interruptible():
            return chat.console.confirm(
                _("{name} is still being downloaded ({percent} %). Stop that and leave?").format(
                    name=pull.name, percent=pull.state.percent
                ),
                default=True,
                at_end=True,
            )
    except (InterruptedByUser, KeyboardInterrupt):
        return True

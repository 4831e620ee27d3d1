"""The first lines of a chat."""

from typing import Final

from tanuki_cli.catalog.practice import suggestions
from tanuki_cli.i18n import N_, _, active_language
from tanuki_cli.terminal.first_run.takeover import FirstChat
from tanuki_cli.text.width import in_columns

_TOUR: Final = (
    N_("Enter sends, Alt-Enter or Ctrl-J breaks the line; pasting never sends."),
    N_("Ctrl-C stops an answer, what came stays; /retry answers again, /edit asks anew."),
    N_("Conversations are kept: tanuki chat --continue goes on, /search finds."),
    N_("/file adds a file, /model changes the model, /set changes a setting."),
)


def greet(chat: FirstChat, *, first_time: bool) -> None:
    """Say what answers, where the help is, and for the practice model what it can be asked.

    ``first_time`` adds a tour of a few lines, which nobody needs twice.
    """
    chat.console.measure_terminal(keep_typing=True)
    info = chat.model.engine.info
    note = chat.console.note
    note(
        _("{model} · {engine} · {device} · context {context} tokens").format(
            model=info.model, engine=info.engine, device=info.device, context=chat.model.engine.context_length
        )
    )
    if chat.model.practice and not chat.conversation.nodes:
        _introduce_practice(chat)
        note(_("Try for example:"))
        for line in in_columns(suggestions(active_language()), columns=chat.console.err.width):
            note(line)
    for line in _TOUR if first_time else ():
        note(_(line))
    note(_("/help shows the commands and keys, Ctrl-D leaves."))
    if chat.conversation.nodes:
        chat.show_last_turn()


def _introduce_practice(chat: FirstChat) -> None:
    if chat.download is not None:
        sentence = _(
            "This is 豆だぬき, a tiny practice model: it knows only what it was taught. "
            "{name} takes this chat over as soon as it is here."
        )
        chat.console.note(sentence.format(name=chat.download.name), style="practice")
        return
    chat.console.note(
        _(
            "This is 豆だぬき, a tiny practice model: it knows only what it was taught. "
            "The real one comes with this command:"
        ),
        style="practice",
    )
    chat.console.note("  tanuki pull tanuki-8b", style="practice")

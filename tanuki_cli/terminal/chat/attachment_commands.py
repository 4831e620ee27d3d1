"""Slash commands about what goes along with the next message: files and the clipboard."""

import shlex
from pathlib import Path
from typing import Final

from tanuki_cli.errors import InputError, PromptTooLongError
from tanuki_cli.files import as_typed
from tanuki_cli.i18n import _, plural
from tanuki_cli.options import fold, is_dash
from tanuki_cli.prompt import guarded
from tanuki_cli.terminal.chat.chat import Attachment, Chat
from tanuki_cli.terminal.chat.clipboard import read_clipboard
from tanuki_cli.terminal.chat.program_commands import show, split_word
from tanuki_cli.text.counts import about
from tanuki_cli.text.decoding import fenced, read_text_file
from tanuki_cli.text.shortening import SHORTEST, without_middle

_TRUNCATE: Final = "--truncate"
_CHUNKED: Final = "--chunked"


def attach_file(chat: Chat, argument: str) -> None:
    """Add a text file to the next message, list what was added, or drop it again.

    With ``--chunked`` the message is put to every part of it where it does not fit into the context.
    """
    first, name = split_word(argument)
    if is_dash(first):
        _drop(chat, name)
    elif fold(first) == _CHUNKED and name:
        path = _path(name)
        _attach(chat, read_text_file(path), path.name, long=True)
    elif argument:
        truncates = fold(first) == _TRUNCATE and bool(name)
        path = _path(name if truncates else argument)
        known = {attachment.name for attachment in chat.attachments}
        text = _fitting(chat, path, truncates=truncates)
        _attach(chat, fenced(path.name, text), str(path) if path.name in known else path.name)
    elif chat.attachments:
        for attachment in chat.attachments:
            show(chat, f"  {_described(attachment)}")
    else:
        chat.console.note(
            _("Nothing is attached. To add a file: {command}").format(command="/file README.md")
        )


def paste(chat: Chat, _argument: str) -> None:
    """Add the clipboard to the next message."""
    _attach(chat, read_clipboard(), _("the clipboard"))


def _fitting(chat: Chat, path: Path, *, truncates: bool) -> str:
    """The text of the file, without its middle where that is too long and ``truncates``.

    Raises InputError that says what would fit.
    """
    text = whole = read_text_file(path)
    while True:
        try:
            chat.meter.check(
                [*(one.text for one in chat.attachments if not one.long), fenced(path.name, text)]
            )
        except PromptTooLongError as error:
            if not truncates:
                raise InputError(
                    _("{name} is too long: of its {count} characters about {fitting} fit.").format(
                        name=path.name,
                        count=about(len(text)),
                        fitting=about(max(len(text) - error.excess_characters, 0), rounded="down"),
                    ),
                    hint=_("Without its middle: {command}; in parts: {chunked}").format(
                        command=f"/file {_TRUNCATE} {path}", chunked=f"/file {_CHUNKED} {path}"
                    ),
                ) from error
            if len(text) <= SHORTEST:
                raise
            text, _cut = without_middle(text, error.excess_characters)
            continue
        if text != whole:
            chat.console.note(
                _("The text was too long: about {count} characters in its middle were left out.").format(
                    count=about(len(whole) - len(text))
                )
            )
        return text


def _path(argument: str) -> Path:
    """The file that is meant; one dropped onto the terminal comes quoted as for a shell."""
    path = as_typed(argument)
    try:
        words = [] if path.exists() else shlex.split(argument)
        unquoted = as_typed(words[0]) if len(words) == 1 else path
        return unquoted if unquoted.exists() else path
    except (OSError, ValueError):  # a name too long, a quote without its partner
        return path


def _attach(chat: Chat, text: str, name: str, *, long: bool = False) -> None:
    told: list[str] = []
    attachment = Attachment(name=name, text=guarded(text, name=name, note=told.append), long=long)
    chat.attachments.append(attachment)
    chat.console.note(
        _("{attachment} goes with the next message; /file - drops it.").format(
            attachment=_described(attachment)
        )
    )
    for note in told:
        chat.console.note(note)


def _drop(chat: Chat, name: str) -> None:
    """Without a name everything. Raises InputError if there is nothing of that name."""
    dropped = [one for one in chat.attachments if name in {"", one.name}]
    if not chat.attachments:
        raise InputError(_("Nothing is attached."), hint="/file README.md")
    if not dropped:
        raise InputError(
            _("{name} is not attached.").format(name=name), hint=_("/file lists what is attached")
        )
    for attachment in dropped:
        chat.attachments.remove(attachment)
        chat.console.note(_("{name} does not go with the next message.").format(name=attachment.name))


def _described(attachment: Attachment) -> str:
    return plural(
        len(attachment.text), "{name} ({count} character)", _("{name} ({count} characters)")
    ).format(name=attachment.name, count=len(attachment.text))

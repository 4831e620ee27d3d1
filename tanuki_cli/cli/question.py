"""The question of ``tanuki ask``: words, piped text and files."""

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.errors import InputError, PromptTooLongError
from tanuki_cli.i18n import _
from tanuki_cli.prompt import guard_markers, guarded
from tanuki_cli.text.counts import about
from tanuki_cli.text.decoding import argument_text, decode_text, fenced, read_prompt, read_text_file
from tanuki_cli.text.shortening import SHORTEST, without_middle

_PATIENCE_S: Final = 2.0


class Attachment(Struct, frozen=True):
    """Text that was not typed. ``name`` is the file's; empty for piped text."""

    name: str
    text: str

    def render(self) -> str:
        """The text as it stands in the question: a file fenced under its name, piped text as it is.

        Guarded as a whole: a name, or a line that was cut in its middle, can imitate a heading too.
        """
        whole = fenced(self.name, self.text) if self.name else self.text.strip("\n")
        return guard_markers(whole)[0]


class Question(Struct, frozen=True):
    """What was typed, and what came with it; ``explanation`` is what was added to say more of it."""

    typed: str
    attachments: tuple[Attachment, ...] = ()
    explanation: str = ""

    @property
    def asked(self) -> str:
        """The question without what is attached."""
        return "\n\n".join(part for part in (self.typed, self.explanation) if part)

    @property
    def text(self) -> str:
        """The whole question; parts are separated by a blank line.

        Files come first: the KV cache of a text serves every question that comes after it. Piped text
        follows what was typed.
        """
        files = [attachment.render() for attachment in self.attachments if attachment.name]
        piped = [attachment.render() for attachment in self.attachments if not attachment.name]
        parts = [*files, self.typed, *piped, self.explanation]
        return "\n\n".join(part for part in parts if part)


def _tell_of_waiting(stdin: TextIO, note: Callable[[str], None]) -> None:
    """Say what is waited for if nothing comes: a pipe may be open that nobody writes to."""
    if os.name == "nt":  # where only sockets can be waited for
        return
    with suppress(OSError, ValueError):  # a stream without a descriptor is there at once
        waiting, _writable, _failed = select.select([stdin.fileno()], [], [], _PATIENCE_S)
        if not waiting:
            note(_("Waiting for text from the standard input; to ask without it: tanuki ask … < /dev/null"))


def read_question(
    words: Sequence[str],
    files: Sequence[Path],
    *,
    stdin: TextIO,
    encoding: str | None,
    note: Callable[[str], None],
) -> Question:
    """Put the question together; piped and attached lines that imitate a turn heading are defused.

    Raises InputError if there is no question, or a part of it is not text.
    """
    explicit = "-" in words
    typed = " ".join(argument_text(word) for word in words if word != "-")
    attachments: list[Attachment] = []
    if explicit or not stdin.isatty():
        name = _("The standard input")
        _tell_of_waiting(stdin, note)
        text = decode_text(read_prompt(stdin.buffer, name=name), name=name, encoding=encoding)
        attachments.append(Attachment("", text.strip("\n")))
    attachments += [Attachment(str(path), read_text_file(path, encoding=encoding)) for path in files]
    attachments = [
        replace(
            attachment,
            text=guarded(attachment.text, name=attachment.name or _("the standard input"), note=note),
        )
        for attachment in attachments
    ]
    question = Question(typed, tuple(attachments))
    if not question.text.strip():
        raise InputError(_("There is no question."), hint="tanuki ask 'あなたは誰?'")
    return question


def truncate_question(
    question: Question, check: Callable[[str], None], note: Callable[[str], None]
) -> Question:
    """Cut the middle of the longest attachment until ``check(text)`` no longer raises PromptTooLongError.

    Raises PromptTooLongError if what was typed alone is too long.
    """
    cut_total = 0
    while True:
        try:
            check(question.text)
        except PromptTooLongError as error:
            longest = max(question.attachments, key=lambda attachment: len(attachment.text), default=None)
            if longest is None or len(longest.text) <= SHORTEST:
                raise
            shorter, cut = without_middle(longest.text, error.excess_characters)
            cut_total += cut
            question = replace(
                question,
                attachments=tuple(
                    replace(attachment, text=shorter) if attachment is longest else attachment
                    for attachment in question.attachments
                ),
            )
            continue
        if cut_total:
            note(
                _("The text was too long: about {count} characters in its middle were left out.").format(
                    count=about(cut_total)
                )
            )
        return question

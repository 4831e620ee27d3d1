"""``ask --chunked`` and ``--find``: the options, and what goes together."""

from typing import Annotated, Final

import typer

from tanuki_cli.cli.options import OutputOptions
from tanuki_cli.cli.question import Question
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _

LONG: Final = N_("Long texts")


class LongTextOptions(OutputOptions):
    """How a text is read that does not fit into the context."""

    chunked: Annotated[
        bool,
        typer.Option(
            "--chunked",
            help=N_("Put the question to every part of a long text, and combine the answers."),
            rich_help_panel=LONG,
        ),
    ] = False
    find: Annotated[
        bool,
        typer.Option(
            "--find",
            help=N_("Read only those passages of a long text that the question is about."),
            rich_help_panel=LONG,
        ),
    ] = False
    combine: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=N_("What introduces the answers about the parts; may name {question} and {count}."),
            rich_help_panel=LONG,
        ),
    ] = None

    @property
    def long(self) -> bool:
        """Whether the text may be longer than the context."""
        return self.chunked or self.find


def check_long(options: LongTextOptions, question: Question | None, *, with_others: str) -> None:
    """Raise InputError for what makes no sense together; ``with_others`` is an option that does not."""
    example = "tanuki ask --chunked -f FILE …"
    if options.combine is not None and not options.chunked:
        raise InputError(_("--combine needs --chunked."), hint=example)
    if not options.long:
        return
    chosen = "--chunked" if options.chunked else "--find"
    other = "--find" if options.chunked and options.find else with_others
    if other:
        raise InputError(
            _("{first} and {second} cannot be used together.").format(first=chosen, second=other),
            hint=example,
        )
    if question is None or not question.typed.strip() or not question.attachments:
        raise InputError(
            _("{option} needs a question and a text: a file, or what is piped in.").format(option=chosen),
            hint=example,
        )

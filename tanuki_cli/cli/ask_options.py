"""The options of ``tanuki ask``."""

from pathlib import Path
from typing import Annotated

import typer

from tanuki_cli.cli.long_text import LongTextOptions
from tanuki_cli.cli.options import OUTPUT, SESSION, ChatOptions
from tanuki_cli.cli.shapes import ShapeOptions
from tanuki_cli.engines.answers import MAX_ALTERNATIVES
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _


class AskOptions(LongTextOptions, ShapeOptions, ChatOptions):
    """What only ``tanuki ask`` takes."""

    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="PATH", help=N_("Add a text file (repeatable).")),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=N_("Encoding of piped text and files; detected by default.")),
    ] = None
    truncate: Annotated[
        bool, typer.Option("--truncate", help=N_("Cut the middle of attached text that is too long."))
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help=N_("Print one JSON object."), rich_help_panel=OUTPUT)
    ] = False
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help=N_("Print one JSON object per chunk."), rich_help_panel=OUTPUT)
    ] = False
    logprobs: Annotated[
        str | None,
        typer.Option(
            metavar="1-20",
            help=N_("With --json or --jsonl: log probabilities, with so many alternatives a token."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    continue_answer: Annotated[
        bool,
        typer.Option(
            "--continue-answer",
            help=N_("Let the last answer go on that was cut."),
            rich_help_panel=SESSION,
        ),
    ] = False
    score: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=N_("Answer nothing; say how likely this answer is."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    statistics: Annotated[
        bool,
        typer.Option(
            "--stats", "-v", help=N_("Print speed and token counts on stderr."), rich_help_panel=OUTPUT
        ),
    ] = False

    @property
    def machine_readable(self) -> bool:
        """Whether a program reads the answer."""
        return self.as_json or self.as_jsonl

    @property
    def alternatives(self) -> int:
        """How many alternatives to a token are asked for; 0 for no log probabilities.

        Raises InputError for a number out of range, and where nothing would show them.
        """
        if self.logprobs is None:
            return 0
        example = "tanuki ask --json --logprobs 5 …"
        if not self.machine_readable:
            raise InputError(_("--logprobs needs --json or --jsonl."), hint=example)
        try:
            number = int(self.logprobs)
        except ValueError:
            number = 0
        if not 1 <= number <= MAX_ALTERNATIVES:
            raise InputError(
                _("--logprobs must be a number from 1 to {most}.").format(most=MAX_ALTERNATIVES), hint=example
            )
        return number

"""The options of ``tanuki batch``."""

from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer

from tanuki_cli.batch.rows import FORMS, RowForm
from tanuki_cli.cli.options import (
    MOST_PLACES,
    OUTPUT,
    PARALLEL,
    SAMPLING,
    ModelOptions,
    PersonaOption,
    Scopes,
    SystemOption,
    read_count,
    read_option,
)
from tanuki_cli.cli.shapes import ShapeOptions
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec, fold

ROWS: Final = N_("Rows")
_MOST: Final = 1_000_000_000


class BatchOptions(ShapeOptions, PersonaOption, SystemOption, ModelOptions):
    """What ``tanuki batch`` takes."""

    scopes: ClassVar[Scopes] = ("sampling",)

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=N_("Append the answers to this file; run again, it goes on. Without it: stdout."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    csv: Annotated[
        bool,
        typer.Option("--csv", help=N_("CSV with the columns of the input."), rich_help_panel=OUTPUT),
    ] = False
    in_order: Annotated[
        bool,
        typer.Option("--in-order", help=N_("Answers in the order of the rows."), rich_help_panel=OUTPUT),
    ] = False
    logprobs: Annotated[
        str | None,
        typer.Option(
            metavar="1-20",
            help=N_("Log probabilities, with so many alternatives a token."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            "-t",
            metavar="TEXT",
            help=N_("The question, with fields of the row: 'In one line: {text}'"),
            rich_help_panel=ROWS,
        ),
    ] = None
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMS),
            help=N_("Form of the input; by the file's name otherwise."),
            rich_help_panel=ROWS,
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=N_("Encoding of the input; detected by default."), rich_help_panel=ROWS
        ),
    ] = None
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit", "-n", metavar="N", help=N_("At most so many rows now."), rich_help_panel=ROWS
        ),
    ] = None
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help=N_("Only so many rows from all over the file, the same ones every time."),
            rich_help_panel=ROWS,
        ),
    ] = None
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar=f"1-{MOST_PLACES}",
            help=N_("So many answers at a time; as many as pay by default."),
        ),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help=N_("Only count tokens, and say how long it would take.")),
    ] = False
    force: Annotated[
        bool,
        typer.Option("--force", help=N_("Go on although input, model or options have changed.")),
    ] = False
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help=N_("Ask the rows again that failed before."))
    ] = False
    prefill: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help=N_("Begin every answer with this text."), rich_help_panel=SAMPLING),
    ] = None

    @property
    def row_form(self) -> RowForm | None:
        """``form`` as one of :data:`FORMS`. Raises InputError for another."""
        if self.form is None:
            return None
        spec = OptionSpec(key="format", choices=FORMS, help="")
        return next(form for form in FORMS if form == read_option(spec, self.form))

    @property
    def text_encoding(self) -> str | None:
        """``encoding`` as it is looked up."""
        return fold(self.encoding) if self.encoding else None

    @property
    def places(self) -> int | None:
        """``parallel`` as a number. Raises InputError for one out of range."""
        return read_count(PARALLEL, self.parallel) if self.parallel else None

    @property
    def most(self) -> int | None:
        """``limit`` as a number, likewise."""
        return _count("limit", self.limit)

    @property
    def tried(self) -> int | None:
        """``sample`` as a number, likewise."""
        return _count("sample", self.sample)

    @property
    def alternatives(self) -> int:
        """``logprobs`` as a number, 0 without."""
        return _count("logprobs", self.logprobs, most=20) or 0

    def check(self) -> None:
        """Raise InputError for values out of range, and for what cannot be used together."""
        _read = (self.row_form, self.places, self.most, self.tried, self.alternatives)
        if self.output is None and (self.force or self.retry_failed):
            raise InputError(
                _("{option} needs the file with the answers so far: -o FILE").format(
                    option="--force" if self.force else "--retry-failed"
                ),
                hint="tanuki batch INPUT -o FILE",
            )


def _count(key: str, text: str | None, *, most: int = _MOST) -> int | None:
    spec = OptionSpec(key=key, kind="integer", minimum=1, maximum=most, usual=8, help="")
    return None if text is None else read_count(spec, text)

"""Shapes on the command line: the options that ask for one, and whether the answer has it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer
from msgspec.structs import replace

from tanuki_cli.cli.question import Question
from tanuki_cli.errors import EngineError, InputError, RemoteError
from tanuki_cli.i18n import N_, _
from tanuki_cli.prompt import guard_markers
from tanuki_cli.text.decoding import decode_text, read_text_file
from tanuki_cli.turn import TurnStatistics

if TYPE_CHECKING:
    from tanuki_cli.engines.shapes import Shape

SHAPE: Final = N_("Shape of the answer")
_FORM: Final = "次の形の JSON で答えてください。"
"""Said to the model, so in its language."""


class ShapeOptions:
    """What an answer must look like: one of these at a time."""

    json_schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-|JSON",
            help=N_("JSON that this JSON Schema describes."),
            rich_help_panel=SHAPE,
        ),
    ] = None
    json_object: Annotated[
        bool, typer.Option("--json-object", help=N_("Any JSON object."), rich_help_panel=SHAPE)
    ] = False
    choices: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help=N_("Exactly one of these answers."), rich_help_panel=SHAPE),
    ] = None
    choices_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=N_("Exactly one of the lines of a file."), rich_help_panel=SHAPE),
    ] = None
    regex: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help=N_("All of it matches a regular expression."), rich_help_panel=SHAPE
        ),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=N_("Text of a Lark grammar."), rich_help_panel=SHAPE),
    ] = None
    explain_schema: Annotated[
        bool,
        typer.Option(
            "--explain-schema",
            help=N_("Tell the model the descriptions in the JSON Schema."),
            rich_help_panel=SHAPE,
        ),
    ] = False


def read_shape(options: ShapeOptions, *, stdin: TextIO) -> "Shape | None":
    """The shape that ``options`` ask for, read and checked; None for none.

    Raises InputError for two at once, for a file that cannot be read, and for a shape that is not
    supported, naming the reason.
    """
    given = _given(options)
    if len(given) > 1:
        raise InputError(
            _("{first} and {second} cannot be used together.").format(first=given[0], second=given[1]),
            hint=_("An answer has one shape: tanuki help shapes"),
        )
    if options.explain_schema and options.json_schema is None:
        raise InputError(
            _("--explain-schema needs --json-schema."),
            hint="tanuki ask --json-schema FILE --explain-schema …",
        )
    if not given:
        return None
    from tanuki_cli.engines.shapes import reading  # most questions ask for no shape

    if options.json_schema is not None:
        return reading.json_schema(_schema_text(options.json_schema, stdin))
    if options.json_object:
        return reading.any_object()
    if options.choices is not None:
        return reading.choices(_parted(options.choices))
    if options.choices_file is not None:
        lines = read_text_file(options.choices_file).splitlines()
        return reading.choices(filter(str.strip, lines), name=str(options.choices_file))
    if options.regex is not None:
        return reading.regex(options.regex)
    assert options.grammar is not None
    return reading.grammar(read_text_file(options.grammar), name=str(options.grammar))


def explained(question: Question, shape: "Shape") -> Question:
    """``question``, and after it what the schema says about itself."""
    return replace(question, explanation=guard_markers(schema_words(shape))[0])


def schema_words(shape: "Shape") -> str:
    """What the schema says about itself, for the model; empty if nothing."""
    from tanuki_cli.engines.shapes.schema import explanation

    words = explanation(shape)
    return f"{_FORM}\n{words}" if words else ""


def check_shape(shape: "Shape", turn: TurnStatistics, *, remote: bool) -> None:
    """Raise EngineError, or RemoteError for a server's answer, unless the answer has the shape."""
    from tanuki_cli.engines.shapes import reading

    if reading.fits(shape, turn.text, as_data=remote):
        return
    kind = RemoteError if remote else EngineError
    if turn.finish_reason == "length":
        raise kind(
            _("The answer was cut before its shape was complete."),
            hint=_("Allow a longer one: --max-new-tokens"),
        )
    raise kind(
        _("The answer does not have the shape that was asked for."),
        hint=_("Ask again, or ask for a simpler shape: tanuki help shapes"),
    )


def _parted(answers: str) -> list[str]:
    """What commas part; those of an input method where there are no others."""
    comma = next((comma for comma in ",，、" if comma in answers), ",")
    return answers.split(comma)


def _given(options: ShapeOptions) -> list[str]:
    names = ("json_schema", "json_object", "choices", "choices_file", "regex", "grammar")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) not in (None, False)]


def _schema_text(given: str, stdin: TextIO) -> str:
    """The schema itself, or where it is: a file, or - for what is piped in."""
    if given == "-":
        return decode_text(stdin.buffer.read(), name=_("The standard input"))
    return given if given.lstrip().startswith("{") else read_text_file(Path(given))

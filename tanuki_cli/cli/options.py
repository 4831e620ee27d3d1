"""Options that commands share.

A command names the scopes of the settings it takes; each setting is declared once, where its field is
(:mod:`tanuki_cli.settings.specs`), and its option is made from that. Values come as text and are read by
:mod:`tanuki_cli.options`, so that the range is named in one place and in the user's language.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_origin, get_type_hints

import typer

from tanuki_cli.cli.completing import (
    Completion,
    choices_of,
    conversation_ids,
    model_names,
    persona_names,
)
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_
from tanuki_cli.options import OptionSpec, Scope, Value, parse_value, range_sentence
from tanuki_cli.prompt import guarded
from tanuki_cli.settings.specs import SPEC_BY_KEY, SPECS
from tanuki_cli.settings.values import Settings, with_values

SAMPLING = N_("Sampling")
SESSION = N_("Conversation")
OUTPUT = N_("Output")
_PANELS: Final[dict[Scope, str]] = {
    "system": SESSION,
    "persona": SESSION,
    "conversation": SESSION,
    "sampling": SAMPLING,
    "answer": OUTPUT,
    "output": OUTPUT,
}
"""Where ``--help`` lists the settings of a scope; the rest stands under "Options"."""

MOST_PLACES: Final = 256
"""As many sequences as llama.cpp takes."""
PARALLEL: Final = OptionSpec(
    key="parallel", kind="integer", minimum=1, maximum=MOST_PLACES, usual=4, help=N_("Answers at a time.")
)
Scopes = tuple[Scope, ...]
Given = tuple[OptionSpec, str | bool | tuple[str, ...]]
"""A setting and what the command line says of it: a text, a switch, or repeated texts."""

OptionsT = TypeVar("OptionsT", bound="OutputOptions")

_COMPLETIONS: Final[dict[str, Completion]] = {
    "model": model_names,
    "persona": persona_names,
}


class OutputOptions:
    """What every command understands. ``given`` holds the settings that stand on the command line.

    A class of options adds its ``scopes`` to those of its bases, and an ``Annotated`` attribute with a
    default for each option of its own. Several such bases can be combined, as those of a Struct cannot.
    """

    scopes: ClassVar[Scopes] = ("output",)

    given: tuple[Given, ...] = ()
    no_color: Annotated[bool, typer.Option("--no-color", help=N_("No colours."), rich_help_panel=OUTPUT)] = (
        False
    )
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help=N_("No notes on stderr, only errors."), rich_help_panel=OUTPUT),
    ] = False
    debug: Annotated[
        bool,
        typer.Option("--debug", help=N_("Show tracebacks and the engine's own log."), rich_help_panel=OUTPUT),
    ] = False

    def __init__(self, values: Mapping[str, Any]) -> None:
        """With ``values`` in place of the defaults of the same names."""
        vars(self).update(values)

    def changed(self: OptionsT, values: Mapping[str, Any]) -> OptionsT:
        """The same but for ``values``."""
        return type(self)({**vars(self), **values})

    def names(self, key: str) -> bool:
        """Whether the command line says something about the setting ``key``."""
        return any(spec.key == key for spec, _value in self.given)


class ModelChoice(OutputOptions):
    """Which model."""

    scopes: ClassVar[Scopes] = ("model",)


class LoadingOptions(OutputOptions):
    """How models are loaded, and whether the network may be used for them."""

    scopes: ClassVar[Scopes] = ("loading", "memory", "network")

    yes: Annotated[bool, typer.Option("--yes", "-y", help=N_("Download a missing model without asking."))] = (
        False
    )
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help=N_("Run the code that came with the model (8x8B)."))
    ] = False


class ModelOptions(LoadingOptions, ModelChoice):
    """One model, and how it is loaded."""


class SystemOption(OutputOptions):
    """The system prompt."""

    scopes: ClassVar[Scopes] = ("system",)


class PersonaOption(OutputOptions):
    """A text before every question, by its name."""

    scopes: ClassVar[Scopes] = ("persona",)


class ConversationOptions(PersonaOption, SystemOption):
    """Which conversation, and whether it is kept."""

    scopes: ClassVar[Scopes] = ("conversation",)

    continue_last: Annotated[
        bool,
        typer.Option(
            "--continue", "-c", help=N_("Go on with the last conversation."), rich_help_panel=SESSION
        ),
    ] = False
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help=N_("Go on with this conversation."),
            rich_help_panel=SESSION,
            autocompletion=conversation_ids,
        ),
    ] = None


class AnswerOptions(OutputOptions):
    """How answers are printed and sampled."""

    scopes: ClassVar[Scopes] = ("answer", "sampling")


class ChatOptions(AnswerOptions, ConversationOptions, ModelOptions):
    """The common options of ask and chat."""

    prefill: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help=N_("Begin the answer with this text."), rich_help_panel=SAMPLING),
    ] = None

    def beginning(self, note: Callable[[str], None]) -> str:
        """How answers begin. A line of it that imitates a turn heading is defused, and ``note`` told."""
        return guarded(self.prefill or "", name="--prefill", note=note)


def takes(options_class: type[OptionsT]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``options_class``, passed as its first argument ``options``.

    A field with the name of a setting is the command's own option for it.
    """
    hints = get_type_hints(options_class, include_extras=True)
    own = {name: hint for name, hint in hints.items() if get_origin(hint) is Annotated}
    scopes = _scopes(options_class)
    specs = [spec for spec in SPECS if spec.scope in scopes or spec.key in own]
    parameters = [
        *(_parameter(spec) for spec in specs if spec.key not in own),
        *(_own_parameter(name, getattr(options_class, name, None), hint) for name, hint in own.items()),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        rest = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in signature.parameters.items()
            if name != "options"
        ]

        @wraps(command)
        def wrapper(**values: Any) -> None:
            found = [(spec, values[spec.key]) for spec in specs]
            given = tuple((spec, value) for spec, value in found if value not in (None, False, (), []))
            options = options_class({"given": given, **{name: values.pop(name) for name in own}})
            for spec in specs:
                values.pop(spec.key, None)
            command(options=options, **values)

        wrapper.__signature__ = signature.replace(parameters=[*rest, *parameters])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*rest, *parameters]}
        return wrapper

    return decorate


def _scopes(options_class: type[OutputOptions]) -> set[Scope]:
    own = [vars(base).get("scopes", ()) for base in options_class.__mro__]
    return {scope for scopes in own for scope in scopes}


def _own_parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameter(spec: OptionSpec) -> inspect.Parameter:
    """The option of a setting; a switch that is on by default is turned off by ``--no-KEY``."""
    kinds: dict[str, Any] = {"boolean": bool, "texts": list[str] | None}
    shown = typer.Option(
        spec.flag,
        *([spec.short] if spec.short else []),
        metavar=None if spec.kind == "boolean" else spec.short_range,
        help=spec.off_help or spec.help,
        rich_help_panel=_PANELS.get(spec.scope),
        autocompletion=_COMPLETIONS.get(spec.key) or choices_of(spec),
        show_default=False,
    )
    return inspect.Parameter(
        spec.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if spec.kind == "boolean" else None,
        annotation=Annotated[kinds.get(spec.kind, str | None), shown],
    )


def describe_group(app: typer.Typer) -> None:
    """Let ``app``, which has commands, show its help where none is named; it takes ``--lang``."""

    @app.callback(invoke_without_command=True)
    def group(
        ctx: typer.Context,
        lang: Annotated[
            str | None, typer.Option(metavar="ja|en", help=N_("Language of the messages."))
        ] = None,
    ) -> None:
        if lang is not None:  # which has been chosen by now: the help page, too, is in it
            read_option(SPEC_BY_KEY["lang"], lang)
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())


def read_option(spec: OptionSpec, text: str) -> Value:
    """The value of the option that ``spec`` describes. Raises InputError that names it and its range."""
    try:
        return parse_value(spec, text)
    except ValueError as exc:
        raise InputError(
            range_sentence(spec, text, name=spec.flag), hint=f"{spec.flag} {spec.example}"
        ) from exc


def read_count(spec: OptionSpec, text: str) -> int:
    """As :func:`read_option`, for a whole number."""
    value = read_option(spec, text)
    assert isinstance(value, int)
    return value


def apply_options(settings: Settings, options: OutputOptions) -> Settings:
    """``settings`` with what was given on the command line over it.

    Raises InputError that names the option and its range.
    """
    changes: dict[str, Value] = {}
    for spec, given in options.given:
        if isinstance(given, str):
            changes[spec.key] = read_option(spec, given)
        elif isinstance(given, bool):
            changes[spec.key] = not spec.default
        else:
            changes[spec.key] = tuple(given)
    return with_values(settings, changes)

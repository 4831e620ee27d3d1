"""Options that commands share, written once.

Numbers come as text and are read by :mod:`tanuki_cli.settings.values`, so that the range is named in one
place and in the user's language.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from tanuki_cli.catalog import VARIANTS, reference_names
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_
from tanuki_cli.settings.specs import SPECS, SettingSpec, Value, parse_value, range_sentence
from tanuki_cli.settings.values import Settings, with_values

SAMPLING = N_("Sampling")
SESSION = N_("Conversation")
OUTPUT = N_("Output")


def model_names(incomplete: str) -> list[str]:
    """The models of the catalog that can be run and whose names begin so, for the shell's completion."""
    refused = {variant.name for variant in VARIANTS if variant.refused}
    return [name for name in reference_names() if name.startswith(incomplete.lower()) and name not in refused]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What every command understands."""

    lang: Annotated[
        str | None,
        typer.Option(metavar="ja|en", help=N_("Language of the messages."), rich_help_panel=OUTPUT),
    ] = None
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


@dataclass(frozen=True, kw_only=True)
class ModelChoice(OutputOptions):
    """Which model."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help=N_("Model: tanuki-8b:q4_k_m, mame, ./file.gguf, http://…"),
            autocompletion=model_names,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(OutputOptions):
    """How models are loaded, and whether the network may be used for them."""

    offline: Annotated[bool, typer.Option("--offline", help=N_("Never touch the network for a model."))] = (
        False
    )
    yes: Annotated[bool, typer.Option("--yes", "-y", help=N_("Download a missing model without asking."))] = (
        False
    )
    context_length: Annotated[
        str | None, typer.Option(metavar="128-1048576", help=N_("Tokens that prompt and answer share."))
    ] = None
    gpu_layers: Annotated[
        str | None, typer.Option(metavar="0-1000", help=N_("Layers on the GPU; as many as fit by default."))
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help=N_("Run the code that came with the model (8x8B)."))
    ] = False
    kv_type: Annotated[
        str | None, typer.Option(metavar="f16|q8_0", help=N_("Precision of the KV cache."))
    ] = None
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help=N_("Compile a safetensors model for the GPU: slow start, fast answers.")
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadingOptions, ModelChoice):
    """One model, and how it is loaded."""


@dataclass(frozen=True, kw_only=True)
class SystemOption(OutputOptions):
    """The system text."""

    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            "-s",
            metavar="TEXT",
            help=N_("System text instead of the model's own."),
            rich_help_panel=SESSION,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ConversationOptions(SystemOption):
    """Which conversation, and whether it is kept."""

    continue_last: Annotated[
        bool,
        typer.Option(
            "--continue", "-c", help=N_("Go on with the last conversation."), rich_help_panel=SESSION
        ),
    ] = False
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", help=N_("Go on with this conversation."), rich_help_panel=SESSION),
    ] = None
    no_save: Annotated[
        bool, typer.Option("--no-save", help=N_("Keep nothing in the history."), rich_help_panel=SESSION)
    ] = False


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(OutputOptions):
    """How answers are printed and sampled."""

    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help=N_("Print the answer without rendering Markdown."), rich_help_panel=OUTPUT
        ),
    ] = False
    temperature: Annotated[
        str | None,
        typer.Option(metavar="0-2", help=N_("0 always takes the likeliest token."), rich_help_panel=SAMPLING),
    ] = None
    top_p: Annotated[
        str | None,
        typer.Option(
            metavar="0-1",
            help=N_("Choose among the tokens that make up this probability."),
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_k: Annotated[
        str | None,
        typer.Option(
            metavar="0-100000",
            help=N_("Choose among this many of the likeliest tokens."),
            rich_help_panel=SAMPLING,
        ),
    ] = None
    min_p: Annotated[
        str | None,
        typer.Option(
            metavar="0-1",
            help=N_("Leave out tokens less likely than this share of the best."),
            rich_help_panel=SAMPLING,
        ),
    ] = None
    repeat_penalty: Annotated[
        str | None,
        typer.Option(
            metavar="0.1-10", help=N_("Make recent tokens less likely; 1 is off."), rich_help_panel=SAMPLING
        ),
    ] = None
    max_new_tokens: Annotated[
        str | None,
        typer.Option(metavar="1-1048576", help=N_("Longest answer in tokens."), rich_help_panel=SAMPLING),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help=N_("End the answer before this text (repeatable)."),
            rich_help_panel=SAMPLING,
        ),
    ] = None
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="0-4294967294", help=N_("Makes the answer repeatable."), rich_help_panel=SAMPLING
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ChatOptions(AnswerOptions, ConversationOptions, ModelOptions):
    """The common options of ask and chat."""


OptionsT = TypeVar("OptionsT", bound=OutputOptions)


def takes(options_class: type[OptionsT]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``options_class``, passed as its first argument ``options``."""
    hints = get_type_hints(options_class, include_extras=True)
    own = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options_class)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        rest = [parameter for name, parameter in signature.parameters.items() if name != "options"]

        @wraps(command)
        def wrapper(**values: Any) -> None:
            options = options_class(**{field.name: values.pop(field.name) for field in fields(options_class)})
            command(options=options, **values)

        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in rest]
        wrapper.__signature__ = signature.replace(parameters=[*keyword, *own])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*keyword, *own]}
        return wrapper

    return decorate


def read_option(spec: SettingSpec, text: str) -> Value:
    """The value of the option that ``spec`` describes. Raises InputError that names it and its range."""
    try:
        return parse_value(spec, text)
    except ValueError as exc:
        option = f"--{spec.key.replace('_', '-')}"
        raise InputError(range_sentence(spec, text, name=option), hint=f"{option} {spec.example}") from exc


def apply_options(settings: Settings, options: OutputOptions) -> Settings:
    """``settings`` with what was given on the command line over it.

    Raises InputError that names the option and its range.
    """
    changes: dict[str, object] = {}
    for spec in SPECS:
        given = getattr(options, spec.key, None)
        if given is None or given is False:
            continue
        if isinstance(given, str):
            given = read_option(spec, given)
        changes[spec.key] = given
    if getattr(options, "no_save", False):
        changes["save"] = False
    if stop := getattr(options, "stop", None):
        changes["stop"] = tuple(stop)
    return with_values(settings, changes)

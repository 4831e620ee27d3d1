"""``tanuki config``: show and change the settings. What mends a broken file works on a broken file."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, cast

import rich.table
import tomlkit
import typer
from msgspec import Struct
from tomlkit.items import Table

from tanuki_cli.catalog import parse_reference
from tanuki_cli.cli.completing import setting_keys
from tanuki_cli.cli.config_remotes import checked_url, not_a_table, remote_name, remote_url
from tanuki_cli.cli.context import CommandContext, prepare, prepare_repair
from tanuki_cli.cli.options import OutputOptions, describe_group, takes
from tanuki_cli.engines.remote.credentials import require_own_variable
from tanuki_cli.errors import InputError, SettingsError, TanukiError
from tanuki_cli.files import locked
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec, Value, asks_for_default, format_value, is_dash, parse_value
from tanuki_cli.settings.file import REMOTES_TABLE, read_config, write_config
from tanuki_cli.settings.personas import PersonaStore
from tanuki_cli.settings.specs import SPECS, find_spec, value_of
from tanuki_cli.settings.values import load_settings
from tanuki_cli.terminal.editor import edit_file
from tanuki_cli.text.decoding import argument_text
from tanuki_cli.text.redaction import hide_queries
from tanuki_cli.text.sanitize import sanitize_line

config_app = typer.Typer(
    add_completion=False,
    help=N_(
        """Show and change the settings.

Examples:
  tanuki config list
  tanuki config set temperature 0.2
  tanuki config set model tanuki-8b:q4_k_m
  tanuki config set remotes.lab http://lab:8000/v1
  tanuki config edit

An option comes before an environment variable (TANUKI_<KEY>), that before the file, that before the
default."""
    ),
)

Source = Literal["environment", "file", "default"]
_SOURCES: Final[Mapping[Source, str]] = {
    "environment": N_("environment"),
    "file": N_("file"),
    "default": N_("default"),
}
_KEY: Final = typer.Argument(
    metavar="KEY", help=N_("A key of `tanuki config list`, or remotes.NAME."), autocompletion=setting_keys
)


class Entry(Struct, frozen=True, kw_only=True):
    """One line of ``config list``; ``value`` is empty where the program chooses."""

    key: str
    value: str
    source: Source


describe_group(config_app)


@config_app.command("list", help=N_("List every setting, its value and where it comes from."))
@takes(OutputOptions)
def list_settings(ctx: typer.Context, options: OutputOptions) -> None:
    """List every setting, its value and where it comes from."""
    context = prepare(ctx, options)
    entries = list(_entries(context))
    if not context.console.out_is_terminal:
        for entry in entries:
            context.console.write(
                f"{sanitize_line(entry.key)}\t{sanitize_line(entry.value)}\t{entry.source}\n"
            )
        return
    table = rich.table.Table.grid(padding=(0, 2))
    for entry in entries:
        style = "note" if entry.source == "default" else ""
        table.add_row(
            sanitize_line(entry.key), sanitize_line(entry.value), _(_SOURCES[entry.source]), style=style
        )
    context.console.out.print(table)


@config_app.command("get", help=N_("Print one value."))
@takes(OutputOptions)
def get(ctx: typer.Context, options: OutputOptions, key: Annotated[str, _KEY]) -> None:
    """Print the value of ``key`` alone."""
    context = prepare(ctx, options)
    name = remote_name(key)
    if name is None:
        value = format_value(value_of(context.settings, _spec(key)))
    else:
        value = remote_url(name, context.settings)
    context.console.write_text(value + "\n")


@config_app.command(
    "set", help=N_("Change a setting in the file."), context_settings={"ignore_unknown_options": True}
)
@takes(OutputOptions)
def set_value(
    ctx: typer.Context,
    options: OutputOptions,
    key: Annotated[str, _KEY],
    value: Annotated[str, typer.Argument(metavar="VALUE", help=N_("The new value."))],
) -> None:
    """Write ``key = value`` into the file, in its place, and keep the comments."""
    context = prepare_repair(ctx, options)
    path = context.directories.config_file
    value = argument_text(value)
    with locked(path):
        document = read_config(path)
        name = remote_name(key)
        if name is None:
            spec = _spec(key)
            parsed = _checked(spec, value, context)
            document[_spelling(document, spec) or spec.key] = (
                list(parsed) if isinstance(parsed, tuple) else parsed
            )
            _warn_of_environment(context, spec)
            shown = f"{spec.key} = {format_value(parsed)}"
        else:
            url = checked_url(name, value)
            require_own_variable(name, (known for known, _url in context.settings.remotes))
            table = document.setdefault(REMOTES_TABLE, tomlkit.table())
            if not isinstance(table, Table):
                raise not_a_table(context)
            table[name] = url
            shown = f"{REMOTES_TABLE}.{name} = {url}"
        write_config(path, document)
    context.console.note(f"{shown}  ({path})")


@config_app.command("unset", help=N_("Remove a setting from the file, so that the default holds."))
@takes(OutputOptions)
def unset(ctx: typer.Context, options: OutputOptions, key: Annotated[str, _KEY]) -> None:
    """Remove ``key`` from the file; also one that is unknown, which keeps the file from being read."""
    context = prepare_repair(ctx, options)
    path = context.directories.config_file
    with locked(path):
        document = read_config(path)
        name = remote_name(key)
        if name is not None:
            table = document.get(REMOTES_TABLE)
            removed = isinstance(table, Table) and table.pop(name, None) is not None
        elif key in document:
            removed = document.pop(key) is not None
        else:
            spelling = _spelling(document, _spec(key))
            removed = spelling is not None and document.pop(spelling) is not None
        if removed:
            write_config(path, document)
    if removed:
        context.console.note(
            _("{key} was removed from {path}; the default holds.").format(key=key, path=path)
        )
    else:
        context.console.note(_("{key} is not set in {path}.").format(key=key, path=path))


@config_app.command("path", help=N_("Print where the file is."))
@takes(OutputOptions)
def show_path(ctx: typer.Context, options: OutputOptions) -> None:
    """Print the path of the file, whether it exists or not."""
    context = prepare_repair(ctx, options)
    context.console.write_text(f"{context.directories.config_file}\n")


@config_app.command("edit", help=N_("Open the file in $VISUAL or $EDITOR, and check it."))
@takes(OutputOptions)
def edit(ctx: typer.Context, options: OutputOptions) -> None:
    """Open the file, made with every key in a comment if there is none, and check what was saved."""
    context = prepare_repair(ctx, options)
    path = context.directories.config_file
    if not path.exists():
        write_config(path, tomlkit.parse(_template()))
    if not edit_file(path):
        raise InputError(_("The editor reported an error."), hint="export EDITOR=nano")
    load_settings({}, path)


# --- what the commands share ------------------------------------------------------------------------------


def _entries(context: CommandContext) -> Iterator[Entry]:
    document = read_config(context.directories.config_file)
    for spec in SPECS:
        source: Source = "file" if _spelling(document, spec) else "default"
        if context.environ.get(spec.environment):
            source = "environment"
        value = format_value(value_of(context.settings, spec))
        yield Entry(key=spec.key, value=hide_queries(value) if spec.key == "model" else value, source=source)
    for name, url in context.settings.remotes:
        yield Entry(key=f"{REMOTES_TABLE}.{name}", value=hide_queries(url), source="file")


def _spec(key: str) -> OptionSpec:
    """The spec of a key from the command line. Raises InputError with the nearest key."""
    try:
        return find_spec(key)
    except SettingsError as exc:
        raise InputError(exc.message, hint=exc.hint) from exc


def _spelling(document: tomlkit.TOMLDocument, spec: OptionSpec) -> str | None:
    """How the file spells the key (``max-new-tokens`` is as good as ``max_new_tokens``), if it has it."""
    for key in document:
        if key.strip().lower().replace("-", "_") == spec.key:
            return key
    return None


def _checked(spec: OptionSpec, text: str, context: CommandContext) -> Value:
    take_back = f"tanuki config unset {spec.key}"
    if is_dash(text) and spec.key != "persona":  # of which - says that there is none
        raise InputError(_("A setting is taken back with unset, not with -."), hint=take_back)
    try:
        value = parse_value(spec, text)
    except ValueError as exc:
        example = f"tanuki config set {spec.key} {spec.example}"
        raise InputError(str(exc), hint=take_back if asks_for_default(text) else example) from exc
    if spec.key == "model":
        try:
            parse_reference(text, context.settings.remotes)
        except TanukiError as exc:
            raise InputError(exc.message, hint=take_back if asks_for_default(text) else exc.hint) from exc
    if spec.key == "persona" and text and not is_dash(text):
        PersonaStore(context.directories.personas).find(text)
    return value


def _warn_of_environment(context: CommandContext, spec: OptionSpec) -> None:
    if context.environ.get(spec.environment):
        context.console.warn(
            _("The environment variable {name} is set and comes before the file.").format(
                name=spec.environment
            )
        )


def _template() -> str:
    """A file that changes nothing and names every key."""
    lines = [_("# Settings of tanuki. Take away the # at the start of a line to use it."), ""]
    for spec in SPECS:
        example = spec.default if spec.default is not None else _EXAMPLES.get(spec.key, spec.usual)
        allowed = spec.describe_range()
        lines.append(f"# {_(spec.help)}" + (f" ({allowed})" if allowed else ""))
        lines += [f"# {spec.key} = {tomlkit.item(cast('Value', example)).as_string()}", ""]
    lines += [_("# Servers by name, for -m NAME."), "# [remotes]", '# lab = "http://lab:8000/v1"', ""]
    return "\n".join(lines)


_EXAMPLES: Final[Mapping[str, Value]] = {
    "lang": "ja",
    "system": "…",
    "persona": "要約",
}

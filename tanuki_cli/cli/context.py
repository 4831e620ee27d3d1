"""What a command runs in: streams, environment, directories, settings. Tests swap the world here."""

import os
from collections.abc import Mapping

import typer
from msgspec import Struct

from tanuki_cli.cli.options import OutputOptions, apply_options
from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import LANGUAGES, Language, activate
from tanuki_cli.settings.values import Directories, Settings, load_settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams


class Environment(Struct, frozen=True, kw_only=True):
    """The world outside: the three streams, the environment variables, our directories."""

    streams: Streams
    environ: Mapping[str, str]
    directories: Directories

    @classmethod
    def of_process(cls) -> "Environment":
        """The real one."""
        return cls(
            streams=Streams.of_process(),
            environ=os.environ,
            directories=Directories.from_environment(os.environ),
        )


class CommandContext(Struct, frozen=True, kw_only=True):
    """The world as one command sees it; ``command`` is its name as typed.

    ``configured`` are the settings of the environment and config.toml, ``settings`` these with the options
    of the command line over them.
    """

    environment: Environment
    console: Console
    settings: Settings
    configured: Settings
    debug: bool
    command: str

    @property
    def directories(self) -> Directories:
        """Where our own files are."""
        return self.environment.directories

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables."""
        return self.environment.environ


def prepare(ctx: typer.Context, options: OutputOptions) -> CommandContext:
    """Load the settings, apply the options, and open the console.

    Raises SettingsError for a broken config.toml or variable, InputError for an option out of range.
    """
    environment: Environment = ctx.find_root().obj
    configured = load_settings(environment.environ, environment.directories.config_file)
    return _context(ctx, environment, configured, options)


def prepare_repair(ctx: typer.Context, options: OutputOptions) -> CommandContext:
    """As :func:`prepare`, but settings that cannot be read do not stop the command that mends them.

    The defaults hold instead.
    """
    try:
        return prepare(ctx, options)
    except SettingsError:
        return _context(ctx, ctx.find_root().obj, Settings(), options)


def _context(
    ctx: typer.Context, environment: Environment, configured: Settings, options: OutputOptions
) -> CommandContext:
    settings = apply_options(configured, options)
    chosen: Language | None = next((lang for lang in LANGUAGES if lang == settings.lang), None)
    if chosen is not None:
        activate(chosen)
    console = Console(
        environment.streams, environment.environ, no_color=options.no_color, quiet=options.quiet
    )
    if options.debug:
        from tanuki_cli.cli.engine_log import show_log  # for those who have asked for it

        show_log(console)
    return CommandContext(
        environment=environment,
        console=console,
        settings=settings,
        configured=configured,
        debug=options.debug,
        command=ctx.command_path,
    )

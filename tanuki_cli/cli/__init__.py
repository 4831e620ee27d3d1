"""The command line. ``main()`` is the only place that exits.

Commands are imported when they are run: ``tanuki --version`` and ``--help`` touch none of them.
"""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tanuki_cli import __version__
from tanuki_cli.cli.commands import COMMAND_BY_NAME, COMMANDS, GROUPS
from tanuki_cli.cli.parser import Command, Group, adopt, split_name
from tanuki_cli.errors import ExitCode, InputError
from tanuki_cli.i18n import LANGUAGES, N_, activate, detect_language
from tanuki_cli.interrupts import end_if_terminated, handle_termination
from tanuki_cli.options import fold, range_sentence
from tanuki_cli.settings.specs import find_spec

_ROOT: Final = str(Path(__file__).resolve().parent.parent.parent)
_COMPLETION: Final = ("install_completion", "show_completion")
"""Options that typer adds; each is a function of :mod:`tanuki_cli.cli.completion`."""


def this_program() -> list[str]:
    """The command line that starts this very program in another process; arguments follow it.

    Not ``-m``: that would look for modules in the user's working directory first.
    """
    start = (
        f"import sys; sys.path[:] = [*filter(None, sys.path), {_ROOT!r}]; "
        "from tanuki_cli.cli import main; main()"
    )
    return [sys.executable, "-c", start]


class CommandGroup(Group):
    """The commands of the table above, imported one at a time."""

    _listing = False

    def get_params(self, ctx: Any) -> Any:
        """As typer's, but the options about completion answer in the user's language."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if parameter.name in _COMPLETION:
                parameter.callback = _complete
        return parameters

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, one heading after the other."""
        return [row.name for group in GROUPS for row in COMMANDS if row.group == group]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; a stand-in while they are only listed."""
        row = COMMAND_BY_NAME.get(cmd_name)
        if row is None:
            return None
        if self._listing:
            heading = GROUPS[row.group]
            return Command(cmd_name, help=row.summary, rich_help_panel=heading)
        module = importlib.import_module(f"tanuki_cli.cli.{row.module or row.name}")
        command = adopt(getattr(module, f"{cmd_name}_app"))
        command.name = cmd_name
        if not gc.isenabled():  # it was switched off for the imports
            gc.freeze()  # what stays to the end need not be looked through
            gc.enable()
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, without importing them."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names and summaries, without importing the commands."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False


def _complete(ctx: Any, parameter: Any, value: Any) -> Any:
    if value and not ctx.resilient_parsing:
        getattr(importlib.import_module("tanuki_cli.cli.completion"), parameter.name)()
        raise typer.Exit
    return value


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"tanuki {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=CommandGroup,
    help=N_("Talk to the Japanese language model Tanuki in a terminal."),
    epilog=N_("Examples:\n  tanuki chat -m mame\n  tanuki ask -m mame 'あなたは誰?'"),
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help=N_("Show the version and exit.")
        ),
    ] = False,
    lang: Annotated[str | None, typer.Option(metavar="ja|en", help=N_("Language of the messages."))] = None,
) -> None:
    if lang is not None and fold(lang).lower() not in LANGUAGES:
        spec = find_spec("lang")
        raise InputError(range_sentence(spec, lang, name="--lang"), hint=f"--lang {spec.example}")
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """Run the command line of this process and exit with its code."""
    activate(detect_language(option_value(sys.argv, "--lang"), os.environ))
    code = None
    if sys.argv[1:] == ["--version"]:
        with contextlib.suppress(OSError):  # what cannot be written is reported below
            typer.echo(f"tanuki {__version__}")
            code = 0
    if code is None:
        handle_termination()
        code = importlib.import_module("tanuki_cli.cli.run").run(app, sys.argv[1:])
    for stream in (sys.__stdout__, sys.__stderr__):  # the parser may have put something else before them
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as exc:  # the reader went away, or the disk is full
            if isinstance(exc, BrokenPipeError):
                code = code or (ExitCode.CLOSED_PIPE if stream is sys.__stdout__ else ExitCode.SUCCESS)
            elif isinstance(exc, OSError):
                code = code or ExitCode.UNEXPECTED
            if stream is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    end_if_terminated()
    if code == ExitCode.INTERRUPTED:
        # Python remembers some KeyboardInterrupts that were caught (those out of exec(), as imports
        # use it), and would kill itself by a signal instead of exiting with 130. Nor need anybody wait.
        os._exit(code)
    sys.exit(code)


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """The value of ``name`` before the parser runs: the language is needed to speak of its errors."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            return None
        found, mark, value = split_name(argument)
        if found == name and mark:
            return fold(value).lower()
        if found == name and index + 1 < len(arguments):
            return fold(arguments[index + 1]).lower()
    return None

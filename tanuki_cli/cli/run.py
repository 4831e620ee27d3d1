"""Runs one command line and turns what it raises into one sentence and an exit code."""

import errno
import traceback
from collections.abc import Sequence

import typer
import typer.main

from tanuki_cli.cli.context import Environment
from tanuki_cli.cli.help import parser_error
from tanuki_cli.errors import ClosedPipeError, ExitCode, InterruptedByUser, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.os_reasons import os_reason
from tanuki_cli.terminal.console import Console


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run ``arguments`` in this process's environment and return the exit code."""
    environment = Environment.of_process()
    debug = "--debug" in arguments
    try:
        command = typer.main.get_command(app)
        result = command.main(
            args=list(arguments), prog_name="tanuki", standalone_mode=False, obj=environment
        )
        return result if isinstance(result, int) else ExitCode.SUCCESS
    except (KeyboardInterrupt, typer.Abort):
        error: TanukiError = InterruptedByUser(_("Interrupted."))
    except TanukiError as exc:
        error = exc
        if debug:
            traceback.print_exc(file=environment.streams.stderr)
    except BrokenPipeError:
        error = ClosedPipeError("")
    except OSError as exc:
        if debug:
            raise
        unbuffered = exc.errno == errno.ENOSPC and exc.filename is None
        error = _stdout_error(exc) if unbuffered else _unwritable(environment) or _foreign(exc)
    except Exception as exc:  # the last border: whatever is left becomes a sentence as well
        if debug:
            raise
        error = _foreign(exc)
    return _report(error, environment, arguments)


def _unwritable(environment: Environment) -> TanukiError | None:
    """The error for a stdout that takes no more: what could not be written is still in its buffer."""
    try:
        environment.streams.stdout.flush()
    except OSError as exc:
        return _stdout_error(exc)
    return None


def _stdout_error(exc: OSError) -> TanukiError:
    return TanukiError(
        _("The standard output cannot be written: {reason}").format(reason=os_reason(exc)),
        hint=_("Check the place that the output goes to."),
    )


def _foreign(exc: Exception) -> TanukiError:
    if hasattr(exc, "format_message"):  # an error of the command line parser
        return parser_error(exc)
    return TanukiError(
        _("Unexpected error: {kind}: {detail}").format(kind=type(exc).__name__, detail=exc),
        hint=_("Run the command again with --debug and report what it prints."),
    )


def _report(error: TanukiError, environment: Environment, arguments: Sequence[str]) -> int:
    if not isinstance(error, (ClosedPipeError, InterruptedByUser)):
        console = Console(environment.streams, environment.environ, no_color="--no-color" in arguments)
        console.error(error)
    return error.exit_code

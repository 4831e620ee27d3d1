"""Runs one command line and turns what it raises into one sentence and an exit code."""

import errno
import os
import traceback
from collections.abc import Sequence

import typer

from tanuki_cli.cli.context import Environment
from tanuki_cli.cli.parser import adopt
from tanuki_cli.errors import ClosedPipeError, ExitCode, InterruptedByUser, TanukiError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run ``arguments`` in this process's environment and return the exit code."""
    try:
        environment = Environment.of_process()
    except TanukiError as error:  # TANUKI_HOME
        Console(Streams.of_process(), os.environ, no_color="--no-color" in arguments).error(error)
        return error.exit_code
    try:
        with interruptible() as was_interrupted:
            result = adopt(app).main(
                args=list(arguments), prog_name="tanuki", standalone_mode=False, obj=environment
            )
            return result if isinstance(result, int) else ExitCode.SUCCESS
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SystemExit as exc:  # the parser's way to say that the reader of its help went away
        if isinstance(exc.__context__, BrokenPipeError):
            return ExitCode.CLOSED_PIPE
        raise
    except Exception as exc:  # noqa: BLE001  # the last border: whatever is left becomes a sentence
        if was_interrupted() and not isinstance(exc, InterruptedByUser):  # libraries make their own of Ctrl-C
            return ExitCode.INTERRUPTED
        if "--debug" in arguments and not isinstance(exc, BrokenPipeError):
            _console(environment, arguments).debug(traceback.format_exc())
        return _report(_translated(exc, environment, arguments), environment, arguments)


def _translated(exc: Exception, environment: Environment, arguments: Sequence[str]) -> TanukiError:
    if isinstance(exc, TanukiError):
        return exc
    if isinstance(exc, BrokenPipeError):
        return ClosedPipeError("")
    if not isinstance(exc, OSError):
        return _foreign(exc, arguments)
    if exc.errno == errno.ENOSPC and exc.filename is None:
        return _stdout_error(exc)
    return _unwritable(environment) or _foreign(exc, arguments)


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


def _foreign(exc: Exception, arguments: Sequence[str]) -> TanukiError:
    if hasattr(exc, "format_message"):  # an error of the command line parser
        from tanuki_cli.cli.parser_errors import parser_error  # hardly ever needed

        return parser_error(exc, arguments)
    return TanukiError(
        _("Unexpected error: {kind}: {detail}").format(kind=type(exc).__name__, detail=exc),
        hint=_("Run the command again with --debug and report what it prints."),
    )


def _report(error: TanukiError, environment: Environment, arguments: Sequence[str]) -> int:
    if isinstance(error, InterruptedByUser):
        # Who stopped it knows; what is left of it, and how to go on, may be news.
        if error.hint and not {"-q", "--quiet"} & set(arguments):
            _console(environment, arguments).note_with_hint(error)
    elif not isinstance(error, ClosedPipeError):
        _console(environment, arguments).error(error)
    return error.exit_code


def _console(environment: Environment, arguments: Sequence[str]) -> Console:
    return Console(environment.streams, environment.environ, no_color="--no-color" in arguments)

"""Where ``tanuki`` and ``python -m tanuki_cli`` begin.

Ctrl-C ends every command with 130 and without a word. The imports are a good part of a short command's
life, so the handler stands before them: until a command runs, and again when it has run, there is nothing
to clean up, and the process ends on the spot.
"""

import gc  # built in, as sys is, and os nearly; nothing else:
import os  # what is imported here is what Ctrl-C can still stop with a traceback
import sys

INTERRUPTED = 130
"""``ExitCode.INTERRUPTED``, which is not imported yet."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    gc.disable()  # while the command is imported, which makes no garbage: looking for it takes a tenth longer
    sys.unraisablehook = _leave_if_interrupted  # importing calls back where nothing can be raised
    try:
        from tanuki_cli.interrupts import handle_interrupts

        handle_interrupts(leave)
        from tanuki_cli.cli import main as run_command_line
    except KeyboardInterrupt:
        leave()
    run_command_line()


def _leave_if_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(unraisable)


def leave() -> None:
    """End the process as it stands."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()

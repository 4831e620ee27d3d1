"""What is typed while no prompt is shown: kept for the next one, and not echoed into an answer."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

try:
    import termios
except ImportError:  # a platform without POSIX terminals: typing is left as it is
    termios = None  # type: ignore[assignment]


@contextmanager
def hold_typing(stdin: TextIO | None) -> Iterator[None]:
    """Keep what is typed for the next prompt, until the block ends: no echo, Ctrl-C discards nothing,
    and Enter stays Enter, which in a usual terminal would reach the prompt as a line break.

    Does nothing off a terminal.
    """
    with _changed(stdin, held=True):
        yield


@contextmanager
def usual_typing(stdin: TextIO | None) -> Iterator[None]:
    """Inside :func:`hold_typing`: let a question, or an editor, have the terminal as usual."""
    with _changed(stdin, held=False):
        yield


@contextmanager
def _changed(stdin: TextIO | None, *, held: bool) -> Iterator[None]:
    if termios is None or stdin is None or not stdin.isatty():
        yield
        return
    descriptor = stdin.fileno()
    before = termios.tcgetattr(descriptor)
    changed = list(before)
    input_flags, echo = termios.ICRNL, termios.ECHO
    if held:
        changed[0] &= ~input_flags
        changed[3] = changed[3] & ~echo | termios.NOFLSH
    else:
        changed[0] |= input_flags
        changed[3] = (changed[3] | echo) & ~termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def typing_waits(stdin: TextIO) -> bool:
    """Whether something was typed that nobody has read yet."""
    return termios is not None and stdin.isatty() and bool(select.select([stdin], [], [], 0)[0])

"""What is typed while an answer streams: kept for the next prompt, and not echoed into the answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

try:
    import termios
except ImportError:  # a platform without POSIX terminals: typing is left as it is
    termios = None  # type: ignore[assignment]


@contextmanager
def hold_typing(stdin: TextIO) -> Iterator[None]:
    """Switch off echo, and let Ctrl-C leave what was typed before it, until the block ends.

    Does nothing off a terminal.
    """
    if termios is None or not stdin.isatty():
        yield
        return
    descriptor = stdin.fileno()
    before = termios.tcgetattr(descriptor)
    held = list(before)
    held[3] = (held[3] & ~(termios.ECHO | termios.ECHONL)) | termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, held)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)

"""What is typed while no prompt is shown: kept for the next one, and not echoed into an answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

try:
    import termios
except ImportError:  # a platform without POSIX terminals: typing is left as it is
    termios = None  # type: ignore[assignment]


class Terminal(Protocol):
    """A stream that may be on a terminal: what ``sys.stdin`` and ``sys.stdout`` are."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


_Attributes = list[Any]
"""As ``termios.tcgetattr`` gives them: flags by index, the control characters at the end."""
_INPUT: Final = 0
_LOCAL: Final = 3
_CHARACTERS: Final = 6


@contextmanager
def hold_typing(stdin: Terminal | None) -> Iterator[None]:
    """Keep what is typed, key for key, for the next prompt, until the block ends.

    Nothing is echoed or edited by the terminal, and Enter stays Enter. Ctrl-C is a signal that
    discards nothing: a prompt inside this block changes that alone, so that at every moment Ctrl-C is
    either a signal or a key. Does nothing off a terminal.
    """
    with _changed(stdin, _hold):
        yield


@contextmanager
def usual_typing(stdin: Terminal | None) -> Iterator[None]:
    """Inside :func:`hold_typing`: let a question, or an editor, have the terminal as usual."""
    with _changed(stdin, _release):
        yield


def _hold(attributes: _Attributes) -> None:
    attributes[_INPUT] &= ~termios.ICRNL
    attributes[_LOCAL] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    attributes[_LOCAL] |= termios.NOFLSH
    attributes[_CHARACTERS][termios.VMIN] = 1
    attributes[_CHARACTERS][termios.VTIME] = 0


def _release(attributes: _Attributes) -> None:
    attributes[_INPUT] |= termios.ICRNL
    attributes[_LOCAL] |= termios.ECHO | termios.ICANON | termios.IEXTEN
    attributes[_LOCAL] &= ~termios.NOFLSH


@contextmanager
def _changed(stdin: Terminal | None, change: Callable[[_Attributes], None]) -> Iterator[None]:
    if termios is None or stdin is None or not stdin.isatty():
        yield
        return
    descriptor = stdin.fileno()
    before: _Attributes | None = None
    with suppress(termios.error):  # the terminal may have gone, and the program is about to be told
        before = termios.tcgetattr(descriptor)
        changed = termios.tcgetattr(descriptor)
        change(changed)
        termios.tcsetattr(descriptor, termios.TCSANOW, changed)
    try:
        yield
    finally:
        if before is not None:
            with suppress(termios.error):
                termios.tcsetattr(descriptor, termios.TCSANOW, before)

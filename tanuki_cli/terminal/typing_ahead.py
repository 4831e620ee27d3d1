"""What is typed while no prompt is shown: kept for the next one, and not echoed into an answer."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

try:
    import termios
except ImportError:  # a platform without POSIX terminals: typing is left as it is
    termios = None  # type: ignore[assignment]


MARK_PASTES: Final = "\x1b[?2004h"
"""Asks the terminal to mark what is pasted, so that a line break in it is not taken for Enter."""
MARK_NO_PASTES: Final = "\x1b[?2004l"
PASTE_BEGINS: Final = "\x1b[200~"
PASTE_ENDS: Final = "\x1b[201~"


class Terminal(Protocol):
    """A stream that may be on a terminal: what ``sys.stdin`` and ``sys.stdout`` are."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


_Change = Callable[["_Attributes"], None]
_Attributes = list[Any]
"""As ``termios.tcgetattr`` gives them: flags by index, the control characters at the end."""
_INPUT: Final = 0
_LOCAL: Final = 3
_CHARACTERS: Final = 6
_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|(?:\]\d|P[\d>!$+?=]|_G)[^\x07\x1b]*(?:\x07|\x1b\\)|O.|[^\r\n])?"
)
"""A key that types nothing, or a reply of the terminal."""
_in_force: list[tuple[int, _Change]] = []
"""The terminals that were changed and how, the newest change last."""


@contextmanager
def hold_typing(stdin: Terminal | None) -> Iterator[None]:
    """Keep what is typed, key for key, for the next prompt, until the block ends.

    Nothing is echoed or edited by the terminal, and Enter stays Enter. Ctrl-C is a signal that
    discards nothing: a prompt inside this block changes that alone, so that at every moment Ctrl-C is
    either a signal or a key. After a stop (Ctrl-Z) it holds again. Does nothing off a terminal.
    """
    with _held_after_a_stop(), _changed(stdin, _hold):
        yield


def without_sequences(line: str) -> str:
    """What was typed of a line that the terminal itself has edited, which keeps arrows and replies in it."""
    return _SEQUENCE.sub("", line)


def can_hold(stdin: Terminal | None) -> bool:
    """Whether ``stdin`` is a terminal whose typing can be held."""
    return termios is not None and stdin is not None and stdin.isatty()


def is_held() -> bool:
    """Whether this is inside :func:`hold_typing`, be it at a question that has the terminal as usual."""
    return any(change is _hold for _descriptor, change in _in_force)


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
def _held_after_a_stop() -> Iterator[None]:
    """A shell that had the terminal meanwhile leaves it as it likes it."""
    is_main = threading.current_thread() is threading.main_thread()
    if termios is None or not is_main or signal.getsignal(signal.SIGCONT) is _change_again:
        yield
        return
    before = signal.signal(signal.SIGCONT, _change_again)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


def _change_again(_number: int, _frame: object) -> None:
    # In the background the terminal is the shell's; to touch it there would stop this process again.
    with suppress(termios.error, OSError, IndexError):
        descriptor, change = _in_force[-1]
        if os.tcgetpgrp(descriptor) == os.getpgrp():
            changed = termios.tcgetattr(descriptor)
            change(changed)
            termios.tcsetattr(descriptor, termios.TCSANOW, changed)


@contextmanager
def _changed(stdin: Terminal | None, change: _Change) -> Iterator[None]:
    if stdin is None or not can_hold(stdin):
        yield
        return
    descriptor = stdin.fileno()
    before: _Attributes | None = None
    with suppress(termios.error):  # the terminal may have gone, and the program is about to be told
        before = termios.tcgetattr(descriptor)
        changed = termios.tcgetattr(descriptor)
        change(changed)
        termios.tcsetattr(descriptor, termios.TCSANOW, changed)
    _in_force.append((descriptor, change))
    try:
        yield
    finally:
        _in_force.pop()
        if before is not None:
            with suppress(termios.error):
                termios.tcsetattr(descriptor, termios.TCSANOW, before)

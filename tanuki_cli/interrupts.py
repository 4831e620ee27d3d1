"""Ctrl-C and SIGTERM, in one place: the process says once what it does, and a block may say otherwise.

A handler runs between two bytecodes of the main thread, so at every moment exactly one of ours must be
in force. None does more than to call one small function or to raise, and one that raises has first put
the handler of the block around it back: nothing can be torn between the two, however fast they come.

Signals exist on every platform Python runs on, but only the main thread may handle them; elsewhere
(a test's worker thread) nothing is installed and KeyboardInterrupt stays what it is.
"""

import atexit
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn

_terminations: Final[list[bool]] = []


def handle_interrupts(callback: Callable[[], None]) -> None:
    """Call ``callback`` at every Ctrl-C until the process ends; for its very first lines.

    What Python itself does at the end, after its exit handlers, is not disturbed any more.
    """
    if not _may_handle():
        return
    signal.signal(signal.SIGINT, lambda _signum, _frame: callback())
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # registered first, called last
    sys.unraisablehook = _report_unraisable
    sys.excepthook = _report


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Raise KeyboardInterrupt at the first Ctrl-C; what follows it is for the block around this one.

    Yields a function that says whether it was raised: a library may have made another error of it.
    """
    came = False
    if not _may_handle():
        yield lambda: came
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(_signum: int, _frame: FrameType | None) -> NoReturn:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, previous)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` at Ctrl-C instead of raising KeyboardInterrupt, until the block ends.

    ``callback`` should only set a flag.
    """
    if not _may_handle():
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda _signum, _frame: callback())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Let a Ctrl-C wait until the block ends: for something short that must be done as a whole.

    It comes then also if the block failed: what it raises has that error as its context.
    """
    came = False

    def note() -> None:
        nonlocal came
        came = True

    try:
        with on_interrupt(note):
            yield
    finally:
        if came:
            signal.raise_signal(signal.SIGINT)


def handle_termination() -> None:
    """Let SIGTERM do what Ctrl-C does, so that the terminal and the files are left whole; a second one ends
    the process at once. Whoever ends the process asks :func:`end_if_terminated` last.
    """
    if _may_handle():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    _terminations.append(True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def is_terminated() -> bool:
    """Whether a SIGTERM came, after which nothing new is to be begun."""
    return bool(_terminations)


def end_if_terminated() -> None:
    """End the process as SIGTERM ends one, if it came: its parent is to see that."""
    if is_terminated():
        signal.raise_signal(signal.SIGTERM)


def _may_handle() -> bool:
    # A shell starts background jobs with Ctrl-C ignored; that is the user's wish, too.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return not ignored and threading.current_thread() is threading.main_thread()


def _report_unraisable(unraisable: Any) -> None:
    if not _delivered_again(unraisable.exc_type):
        sys.__unraisablehook__(unraisable)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not _delivered_again(kind):
        sys.__excepthook__(kind, error, trace)


def _delivered_again(kind: type[BaseException]) -> bool:
    """Where an exception can only be reported and the program goes on (``__del__``, a callback from
    native code), a KeyboardInterrupt must be neither a traceback nor forgotten: the next handler gets it."""
    if not issubclass(kind, KeyboardInterrupt):
        return False
    signal.raise_signal(signal.SIGINT)
    return True

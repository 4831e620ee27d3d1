"""Ctrl-C as a request to stop the running answer, in one place.

Signals exist on every platform Python runs on, but only the main thread may handle them; elsewhere
(a test's worker thread) nothing is installed and KeyboardInterrupt stays what it is.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt again inside an :func:`on_interrupt` block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` at Ctrl-C instead of raising KeyboardInterrupt, until the block ends.

    ``callback`` runs between two bytecodes of the main thread: it should only set a flag.
    """
    # A shell starts background jobs with Ctrl-C ignored; that is the user's wish, too.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signum: int, _frame: FrameType | None) -> None:
        callback()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)

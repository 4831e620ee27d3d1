"""A terminal that a test types on, and the console that asks there."""

import io
import os
import pty
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams


class Keyboard(NamedTuple):
    """``side`` is the test's end of the terminal."""

    side: int
    stdin: io.TextIOWrapper
    console: Console

    def type(self, keys: bytes) -> None:
        """Type ``keys``; on return the terminal has taken them, in its present mode."""
        os.write(self.side, keys)
        select.select([self.stdin], [], [], 0)

    def shown(self) -> str:
        """What the terminal shows, so far."""
        shown = b""
        while select.select([self.side], [], [], 0)[0]:
            shown += os.read(self.side, 4096)
        return shown.decode()


@contextmanager
def open_keyboard() -> Iterator[Keyboard]:
    """A keyboard, until the block ends."""
    side, ours = pty.openpty()
    with os.fdopen(ours, encoding="utf-8") as stdin, os.fdopen(os.dup(ours), "w", encoding="utf-8") as stderr:
        yield Keyboard(side, stdin, Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {}))
        os.close(side)  # who still reads is told

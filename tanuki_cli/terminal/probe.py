"""What this terminal can do: found out by asking it where environment variables do not tell."""

import os
import re
import select
import shutil
import sys
import time
from dataclasses import dataclass
from typing import Final

from tanuki_cli.terminal.console import Console

_AMBIGUOUS: Final = "○"
_REPLY: Final = re.compile(rb"\x1b\[(\d+);(\d+)R")
_PATIENCE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalFacts:
    """``columns`` is 0 off a terminal; ``ambiguous_width`` None where the terminal did not say."""

    term: str
    encoding: str
    speaks_japanese: bool
    colors: bool
    columns: int
    ambiguous_width: int | None


def probe_terminal(console: Console, term: str) -> TerminalFacts:
    """Look at the terminal that ``console`` writes to; nothing stays on the screen."""
    encoding = console.streams.stdout.encoding or "ascii"
    return TerminalFacts(
        term=term,
        encoding=encoding.lower(),
        speaks_japanese=can_encode("日本語", encoding),
        colors=console.out_has_color,
        columns=shutil.get_terminal_size((0, 0)).columns if console.out_is_terminal else 0,
        ambiguous_width=_ambiguous_width(console) if can_encode(_AMBIGUOUS, encoding) else None,
    )


def can_encode(text: str, encoding: str) -> bool:
    """Whether every character of ``text`` exists in ``encoding``; False for an unknown one."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _ambiguous_width(console: Console) -> int | None:
    """How many cells the terminal gives a character of ambiguous width; None if it does not answer."""
    if not (console.in_is_terminal and console.out_can_move_cursor) or sys.platform == "win32":
        return None
    column = _column_after(console, f"\r{_AMBIGUOUS}")
    console.write("\r\x1b[K")
    return column - 1 if column in (2, 3) else None


def _column_after(console: Console, text: str) -> int | None:
    """Print ``text`` and ask the terminal for the column of the cursor, counted from 1."""
    # Unix only, and imported only by the one command that needs it.
    import termios
    import tty

    descriptor = console.streams.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        console.write(f"{text}\x1b[6n")
        reply = b""
        deadline = time.monotonic() + _PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([descriptor], [], [], left)[0]:
                break
            reply += os.read(descriptor, 64)
            if found := _REPLY.search(reply):
                return int(found[2])
        return None
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)

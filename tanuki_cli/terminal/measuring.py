"""Asking the terminal how wide it draws what Unicode calls ambiguous, and for its background."""

import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.terminal.typing_ahead import Terminal, hold_typing

_REPORT: Final = re.compile(rb"\x1b\[\d+;(\d+)R")
_BACKGROUND: Final = re.compile(
    rb"\x1b\]11;rgba?:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})[^\x1b\x07]*(?:\x1b\\|\x07)"
)
_AMBIGUOUS_SAMPLE: Final = "※"
_ASK_BACKGROUND: Final = "\x1b]11;?\x1b\\"
_KNOW_COLORS: Final = ("xterm", "tmux", "rxvt", "alacritty", "kitty", "foot", "wezterm", "ghostty", "contour")
"""How the names of terminals begin that print nothing when they are asked for a colour they do not tell."""
_WEIGHTS: Final = (0.299, 0.587, 0.114)
"""How much red, green and blue make for brightness."""


class Measurement(Struct, frozen=True, kw_only=True):
    """``ambiguous_width`` is 1, 2, or None where the terminal does not tell, as ``background`` is None;
    ``typed`` came meanwhile, its last character perhaps cut."""

    ambiguous_width: int | None = None
    background: Literal["dark", "light"] | None = None
    typed: bytes = b""


def measure_terminal(
    stream_in: Terminal,
    stream_out: Terminal,
    environ: Mapping[str, str],
    *,
    timeout: float = 0.3,
    among_keys: bool = False,
) -> Measurement:
    """Ask the terminal how wide it draws ``※``, and for its background if ``TERM`` is one that can be asked.

    Prints the character at the start of the current line, asks for the cursor position, and wipes
    the character again. The background is asked for first: every terminal tells the position, so that what
    did not come before that does not come. Waits at most ``timeout`` seconds. Nothing is asked when a stream
    is not a terminal, nor in the background, where the terminal is the shell's; nor when keys are already
    waiting, unless the caller has a use for them (``among_keys``).
    """
    if sys.platform == "win32" or not (stream_in.isatty() and stream_out.isatty()):
        return Measurement()
    source, target = stream_in.fileno(), stream_out.fileno()
    if _is_the_shells(source):
        return Measurement()
    if not among_keys and select.select([source], [], [], 0)[0]:
        return Measurement()
    received = bytearray()
    try:
        with hold_typing(stream_in):
            ask = _ASK_BACKGROUND if environ.get("TERM", "").startswith(_KNOW_COLORS) else ""
            os.write(target, f"{ask}\r{_AMBIGUOUS_SAMPLE}\x1b[6n".encode())
            column = _read_column(source, received, time.monotonic() + timeout)
            os.write(target, b"\r\x1b[K")
    except OSError:
        column = 0
    width = column - 1 if column in {2, 3} else None
    background = _take_background(received)
    return Measurement(ambiguous_width=width, background=background, typed=bytes(received))


def _is_the_shells(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # it is not the terminal that this process was started from
        return False


def _take_background(received: bytearray) -> Literal["dark", "light"] | None:
    """What the terminal says of its background, which is taken out of ``received``."""
    match = _BACKGROUND.search(received)
    if match is None:
        return None
    shares = [int(digits, 16) / (16 ** len(digits) - 1) for digits in match.groups()]
    del received[match.start() : match.end()]
    brightness = sum(weight * share for weight, share in zip(_WEIGHTS, shares, strict=True))
    return "light" if brightness > 0.5 else "dark"


def _read_column(source: int, received: bytearray, deadline: float) -> int:
    """The column of a cursor position report, 0 when none comes before ``deadline``.

    What else comes is left in ``received``; nothing is read that follows the report.
    """
    while (left := deadline - time.monotonic()) > 0 and select.select([source], [], [], left)[0]:
        piece = os.read(source, 1)
        if not piece:
            return 0
        received += piece
        if match := _REPORT.search(received):
            column = int(match[1])
            del received[match.start() :]
            return column
    return 0

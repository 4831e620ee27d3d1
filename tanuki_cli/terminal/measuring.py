"""Asking the terminal how wide it draws the characters that Unicode calls ambiguous."""

import os
import re
import select
import sys
import time
from dataclasses import dataclass
from typing import Final

from tanuki_cli.terminal.typing_ahead import Terminal, hold_typing

_REPORT: Final = re.compile(rb"\x1b\[\d+;(\d+)R")
_AMBIGUOUS_SAMPLE: Final = "※"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """``ambiguous_width`` is 1, 2, or None where the terminal does not tell; ``typed`` came meanwhile."""

    ambiguous_width: int | None = None
    typed: str = ""


def measure_ambiguous_width(
    stream_in: Terminal, stream_out: Terminal, *, timeout: float = 0.3, among_keys: bool = False
) -> Measurement:
    """Ask the terminal how wide it draws ``※``.

    Prints the character at the start of the current line, asks for the cursor position, and wipes
    the character again. Waits at most ``timeout`` seconds. Nothing is asked when a stream is not a
    terminal; nor when keys are already waiting, unless the caller has a use for them (``among_keys``).
    """
    if sys.platform == "win32" or not (stream_in.isatty() and stream_out.isatty()):
        return Measurement()
    source, target = stream_in.fileno(), stream_out.fileno()
    if not among_keys and select.select([source], [], [], 0)[0]:
        return Measurement()
    received = bytearray()
    try:
        with hold_typing(stream_in):
            os.write(target, f"\r{_AMBIGUOUS_SAMPLE}\x1b[6n".encode())
            column = _read_column(source, received, time.monotonic() + timeout)
            os.write(target, b"\r\x1b[K")
    except OSError:
        column = 0
    width = column - 1 if column in {2, 3} else None
    return Measurement(ambiguous_width=width, typed=received.decode("utf-8", "ignore"))


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

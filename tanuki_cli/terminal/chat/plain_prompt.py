"""The prompt on a terminal that can only print (``TERM=dumb``, Emacs' shell): it edits the line itself."""

import time
from collections import deque
from typing import Final

from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible, is_terminated
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.typing_ahead import take_finished_lines, usual_typing, without_sequences

_TWICE_WITHIN_S: Final = 2.0


class PlainPrompt:
    """Reads lines; CR and LF both end one. Nothing is written but the prompt itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._leaves_until = 0.0
        self._typed: deque[str] = deque()
        self._begun = ""

    def read(self) -> str:
        """The next line. Raises EOFError at Ctrl-D, and at the second Ctrl-C in a row."""
        while True:
            try:
                with interruptible():
                    return self._read()
            except KeyboardInterrupt:
                self._begun = ""
                self._console.write("\n")
                if is_terminated() or time.monotonic() < self._leaves_until:
                    raise EOFError from None
                self._leaves_until = time.monotonic() + _TWICE_WITHIN_S
                self._console.note(_("Press Ctrl-C again to leave."))

    def _read(self) -> str:
        stdin = self._console.streams.stdin
        with usual_typing(stdin):
            typed_ahead = self._begun + self._console.take_typed() + take_finished_lines(stdin)
            *lines, self._begun = typed_ahead.split("\r")
            self._typed.extend(lines)
            if self._typed:
                line = without_sequences(self._typed.popleft())
                self._console.write(f"> {line}\n")
                return line
            self._console.write(f"> {self._begun}")
            typed = stdin.buffer.readline()
        if not typed:
            raise EOFError
        begun, self._begun = self._begun, ""
        return without_sequences(begun + typed.decode("utf-8", errors="replace").rstrip("\r\n"))

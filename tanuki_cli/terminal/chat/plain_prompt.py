"""The prompt on a terminal that can only print (``TERM=dumb``, Emacs' shell): it edits the line itself."""

import time
from typing import Final

from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible, is_terminated
from tanuki_cli.terminal.console import Console

_TWICE_WITHIN_S: Final = 2.0


class PlainPrompt:
    """Reads lines; CR and LF both end one. Nothing is written but the prompt itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._leaves_until = 0.0

    def read(self) -> str:
        """The next line. Raises EOFError at Ctrl-D, and at the second Ctrl-C in a row."""
        while True:
            try:
                with interruptible():
                    return self._read()
            except KeyboardInterrupt:
                self._console.write("\n")
                if is_terminated() or time.monotonic() < self._leaves_until:
                    raise EOFError from None
                self._leaves_until = time.monotonic() + _TWICE_WITHIN_S
                self._console.note(_("Press Ctrl-C again to leave."))

    def _read(self) -> str:
        line = self._console.typed.read(ask=lambda: self._console.write("> "), show=self._console.write)
        if not line:
            raise EOFError
        return line.rstrip("\n")

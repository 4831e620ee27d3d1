"""The prompt on a terminal that can only print (``TERM=dumb``, Emacs' shell): it edits the line itself."""

from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible, is_terminated
from tanuki_cli.terminal.chat.leaving import LeavingTwice
from tanuki_cli.terminal.console import Console


class PlainPrompt:
    """Reads lines; CR and LF both end one. Nothing is written but the prompt itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._twice = LeavingTwice()

    def read(self) -> str:
        """The next line. Raises EOFError at Ctrl-D, and at the second Ctrl-C in a row."""
        while True:
            try:
                with interruptible():
                    return self._read()
            except KeyboardInterrupt:
                self._console.write("\n")
                if is_terminated() or self._twice.press():
                    raise EOFError from None
                self._console.note(_("Press Ctrl-C again to leave."))
                self._twice.shown()

    def _read(self) -> str:
        line = self._console.typed.read(ask=lambda: self._console.write("> "), show=self._console.write)
        if not line:
            raise EOFError
        self._twice.forget()
        return line.rstrip("\n")

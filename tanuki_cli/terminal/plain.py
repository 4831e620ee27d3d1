"""An answer without rendering: ``--plain``, pipes, ``TERM=dumb``."""

from collections.abc import Callable
from typing import Protocol

from tanuki_cli.text.sanitize import Sanitizer


class AnswerStream(Protocol):
    """Where an answer is printed while it arrives: here, or as Markdown."""

    def feed(self, text: str) -> None:
        """More of the answer."""
        ...

    def draw(self) -> None:
        """Show everything received so far; for callers that are about to wait."""
        ...

    def finish(self) -> None:
        """The answer is complete; it ends with exactly one newline."""
        ...

    def interrupt(self) -> None:
        """The answer was cut off; it ends with exactly one newline."""
        ...


class PlainStream:
    """Prints one answer as it is, sanitised: no control sequence leaves here."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._sanitizer = Sanitizer()
        self._newlines = 0

    def feed(self, text: str) -> None:
        """Print ``text``; newlines wait until something follows them."""
        self._print(self._sanitizer.feed(text))

    def draw(self) -> None:
        """Nothing waits to be shown."""

    def finish(self) -> None:
        """Print what was held back and one newline in place of those at the end."""
        self._print(self._sanitizer.finish())
        self._write("\n")

    def interrupt(self) -> None:
        """What was printed stays; the same as :meth:`finish`."""
        self.finish()

    def _print(self, text: str) -> None:
        body = text.rstrip("\n")
        if body:
            self._write("\n" * self._newlines + body)
            self._newlines = 0
        self._newlines += len(text) - len(body)

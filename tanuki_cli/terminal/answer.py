"""An answer on stdout as it is generated: rendered on a terminal, plain everywhere else."""

from typing import Protocol

from tanuki_cli.settings import Settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.sanitize import Sanitizer


class AnswerWriter(Protocol):
    """Where the text of one answer goes."""

    def feed(self, text: str) -> None:
        """Show more of the answer. Raises ClosedPipeError if the reader went away."""

    def finish(self) -> None:
        """End the answer with exactly one newline."""


class PlainAnswer:
    """The text itself. Line ends at the very end are held back, so that exactly one comes out."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._sanitizer = Sanitizer() if console.out_is_terminal else None
        self._held = ""

    def feed(self, text: str) -> None:
        """Show more of the answer. Raises ClosedPipeError if the reader went away."""
        if self._sanitizer is not None:
            text = self._sanitizer.feed(text)
        text = self._held + text
        shown = text.rstrip("\n")
        self._held = text[len(shown) :]
        if shown:
            self._console.write(shown)

    def finish(self) -> None:
        """End the answer with exactly one newline."""
        rest = self._sanitizer.finish() if self._sanitizer is not None else ""
        self._console.write((self._held + rest).rstrip("\n") + "\n" if rest else "\n")
        self._held = ""


class NoAnswer:
    """Nothing is shown; the caller prints the answer whole (``--json``)."""

    def feed(self, text: str) -> None:
        """Take text and show nothing."""

    def finish(self) -> None:
        """Nothing to end."""


def open_answer(console: Console, settings: Settings) -> AnswerWriter:
    """The writer that fits stdout: rendered Markdown on a terminal that can, else plain text."""
    if settings.plain or not console.out_can_move_cursor:
        return PlainAnswer(console)
    # Rendering needs rich.markdown and a syntax highlighter; a pipe must not wait for them.
    from tanuki_cli.terminal.markdown import MarkdownAnswer

    return MarkdownAnswer(console, theme=settings.theme)

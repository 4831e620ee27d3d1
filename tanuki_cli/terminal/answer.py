"""An answer on stdout as it is generated: rendered on a terminal, plain everywhere else; and what it took."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tanuki_cli.i18n import _, plural
from tanuki_cli.settings.values import Settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.sanitize import Sanitizer
from tanuki_cli.turn import TurnStatistics

if TYPE_CHECKING:
    from tanuki_cli.terminal.theme import Look


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


class NoStream:
    """Shows nothing; the caller prints the answer whole (``--json``)."""

    def feed(self, text: str) -> None:
        """Take text and show nothing."""

    def draw(self) -> None:
        """Nothing waits to be shown."""

    def finish(self) -> None:
        """Nothing to end."""

    def interrupt(self) -> None:
        """Nothing to end."""


def open_answer(console: Console, settings: Settings) -> AnswerStream:
    """The stream that fits stdout: rendered Markdown on a terminal that can, else plain text."""
    if settings.plain or not console.out_can_move_cursor:
        return PlainStream(console.write)
    # Rendering needs a Markdown parser and a highlighter; a pipe must not wait for their import.
    from tanuki_cli.terminal.markdown.stream import MarkdownStream

    return MarkdownStream(
        console.write,
        look=choose_look(console, settings),
        width=lambda: shutil.get_terminal_size().columns,
        height=lambda: shutil.get_terminal_size().lines,
    )


def choose_look(console: Console, settings: Settings) -> "Look":
    """What Markdown is drawn with on stdout."""
    from tanuki_cli.terminal.theme import THEMES, Look, detect_theme

    theme = THEMES[detect_theme(settings.theme, console.environ, measured=console.background)]
    return Look(
        theme=theme if console.out_has_color else theme.without_color(), ambiguous=console.ambiguous_width
    )


def describe_turn(turn: TurnStatistics, *, load_s: float | None = None) -> str:
    """One line: load time, time to first text, tokens, speed, seed."""
    parts: list[str] = []
    if load_s is not None:
        parts.append(_("load {seconds:.2f} s").format(seconds=load_s))
    if turn.ttft_s is not None:
        parts.append(_("first text {seconds:.2f} s").format(seconds=turn.ttft_s))
    usage = turn.usage
    if usage.prompt_tokens:  # no prompt is empty: 0 is a server that does not tell
        parts.append(
            _("prompt {prompt} tokens ({cached} reused)").format(
                prompt=usage.prompt_tokens, cached=usage.cached_tokens
            )
        )
    parts.append(
        plural(usage.completion_tokens, "answer {count} token", _("answer {count} tokens")).format(
            count=usage.completion_tokens
        )
    )
    if turn.tokens_per_s is not None:
        parts.append(_("{speed:.1f} tokens/s").format(speed=turn.tokens_per_s))
    if turn.seed is not None:
        parts.append(_("seed {seed}").format(seed=turn.seed))
    return " · ".join(parts)

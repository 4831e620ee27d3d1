"""An answer on stdout as it is generated: rendered on a terminal, plain everywhere else."""

import shutil

from tanuki_cli.settings.values import Settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.plain import AnswerStream, PlainStream
from tanuki_cli.terminal.theme import THEMES, Look, detect_theme


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


def choose_look(console: Console, settings: Settings) -> Look:
    """What Markdown is drawn with on stdout."""
    theme = THEMES[detect_theme(settings.theme, console.environ)]
    return Look(
        theme=theme if console.out_has_color else theme.without_color(), ambiguous=console.ambiguous_width
    )

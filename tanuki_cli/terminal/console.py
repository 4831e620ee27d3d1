"""The two streams: the answer on stdout, everything else on stderr.

Each stream is looked at on its own: off a terminal there is no colour, no animation, no cursor
movement. Text from outside passes :func:`~tanuki_cli.text.sanitize.sanitize` wherever it goes, for
a pipe may end in a terminal too; only JSON carries it unchanged.
"""

import codecs
import json
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TextIO

from tanuki_cli.errors import ClosedPipeError, InterruptedByUser, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.options import fold
from tanuki_cli.terminal.measuring import measure_terminal
from tanuki_cli.terminal.streams import Streams, wants_color
from tanuki_cli.terminal.typed_lines import TypedLines
from tanuki_cli.terminal.typing_ahead import MARK_NO_PASTES, MARK_PASTES
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.redaction import hide_queries, redact
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.width import default_ambiguous_width

if TYPE_CHECKING:  # what is piped into another program needs none of it
    import rich.console

_ACTING: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of the characters that a terminal may act on, or hide."""
YES: Final = frozenset(("y", "yes", "はい", "ハイ", "いぇs"))
NO: Final = frozenset(("n", "no", "いいえ", "イイエ", "ん", "の"))
"""Answers to a question; the last ones are what the keys of "yes", "n" and "no" type in an input method."""


def _tell_terminal(stream: TextIO, sequence: str) -> None:
    with suppress(OSError):  # it has gone, and the next that is printed tells
        stream.write(sequence)
        stream.flush()


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


class Console:
    """Everything that is printed goes through here.

    ``quiet`` leaves out notes, never errors.
    """

    def __init__(
        self, streams: Streams, environ: Mapping[str, str], *, no_color: bool = False, quiet: bool = False
    ) -> None:
        self.streams = streams
        self.quiet = quiet
        self.environ = environ
        self.ambiguous_width = default_ambiguous_width(environ)
        self.background: Literal["dark", "light"] | None = None
        self.typed = TypedLines(streams.stdin)
        self._marking = 0
        dumb = environ.get("TERM") == "dumb"
        self.in_is_terminal = streams.stdin.isatty()
        self.out_is_terminal = streams.stdout.isatty()
        self.err_is_terminal = streams.stderr.isatty()
        self.out_can_move_cursor = self.out_is_terminal and not dumb
        self.err_can_move_cursor = self.err_is_terminal and not dumb
        self.out_has_color = wants_color(streams.stdout, environ, no_color=no_color)
        self.err_has_color = wants_color(streams.stderr, environ, no_color=no_color)

    def measure_terminal(self, *, keep_typing: bool = False) -> None:
        """Ask the terminal how wide it draws ※ and its like, and for its background.

        The guesses by locale and environment stay if it is silent.

        ``keep_typing`` asks also while keys are being typed, which :attr:`typed` keeps.
        """
        if self.in_is_terminal and self.out_can_move_cursor:
            measured = measure_terminal(
                self.streams.stdin, self.streams.stdout, self.environ, among_keys=keep_typing
            )
            self.background = measured.background or self.background
            self.ambiguous_width = measured.ambiguous_width or self.ambiguous_width
            self.typed.keep_bytes(measured.typed)

    @contextmanager
    def mark_pastes(self) -> Iterator[None]:
        """Let the terminal mark what is pasted while no prompt is shown, too, until the block ends.

        A block within another one says it again: a prompt that was shown meanwhile has ended it.
        """
        shown_on = self.streams.stderr if self.err_can_move_cursor else self.streams.stdout
        if not (self.in_is_terminal and (self.err_can_move_cursor or self.out_can_move_cursor)):
            yield
            return
        _tell_terminal(shown_on, MARK_PASTES)
        self._marking += 1
        try:
            yield
        finally:
            self._marking -= 1
            if not self._marking:
                _tell_terminal(shown_on, MARK_NO_PASTES)

    @property
    def can_ask(self) -> bool:
        """Whether a question can be put to a person: stdin and stderr are terminals."""
        return self.in_is_terminal and self.err_is_terminal

    @cached_property
    def out(self) -> "rich.console.Console":
        """rich on stdout, for tables. Never give it text from outside as markup."""
        return self._rich(self.streams.stdout, color=self.out_has_color, terminal=self.out_is_terminal)

    @cached_property
    def err(self) -> "rich.console.Console":
        """rich on stderr, for notes and progress."""
        return self._rich(self.streams.stderr, color=self.err_has_color, terminal=self.err_is_terminal)

    def _rich(self, stream: TextIO, *, color: bool, terminal: bool) -> "rich.console.Console":
        from tanuki_cli.terminal.rich_console import open_rich  # which plain lines in a pipe do not need

        return open_rich(stream, self.environ, color=color, terminal=terminal)

    def write(self, text: str) -> None:
        """Write to stdout as it is, at once. Raises ClosedPipeError if the reader went away."""
        try:
            self.streams.stdout.write(redact(text))
            self.streams.stdout.flush()
        except BrokenPipeError as exc:
            raise ClosedPipeError(_("The reader of the output went away.")) from exc

    def write_text(self, text: str) -> None:
        """Write what came from outside to stdout: into a pipe or a file as it is, onto a terminal without
        what could act on it."""
        self.write(sanitize(text) if self.out_is_terminal else text)

    def write_json(self, document: object, *, indent: int | None = None) -> None:
        """Write ``document`` as JSON and a line break, as :meth:`write_json_text` does."""
        self.write_json_text(json.dumps(document, ensure_ascii=False, indent=indent) + "\n")

    def write_json_text(self, text: str) -> None:
        """Write JSON to stdout without losing a character, whatever the encoding.

        Anything but ASCII is a ``\\u`` escape where stdout is not UTF-8; lone surrogates always are, and on a
        terminal what could act on it.
        """
        encoding = codecs.lookup(self.streams.stdout.encoding or "ascii").name
        escaped = {
            ord(char): _json_escape(char)
            for char in set(text)
            if (not char.isascii() and encoding != "utf-8")
            or (unicodedata.category(char) in (_ACTING if self.out_is_terminal else ("Cs",)) and char != "\n")
        }
        self.write(text.translate(escaped) if escaped else text)

    def note(self, text: str, *, style: str = "note") -> None:
        """Tell the user something on stderr, unless ``--quiet``."""
        if self.quiet:
            return
        rows = _hidden(text).split("\n")  # before a line break could part a secret
        if self.err_is_terminal:
            rows = [part for row in rows for part in wrap_text(row, self.err.width)]
        for row in rows:
            self._print_err(row, style)

    def warn(self, text: str) -> None:
        """Tell the user something that should be seen, unless ``--quiet``."""
        self.note(text, style="warning")

    def error(self, error: TanukiError) -> None:
        """One sentence, and one line that says what to do next."""
        # Not wrapped here: a command or a path must copy as one line.
        self._print_err(_("Error: {message}").format(message=error.message), "error")
        self._print_hint(error)

    def note_with_hint(self, error: TanukiError) -> None:
        """The same for what is no error, such as an end that the user asked for."""
        self._print_err(error.message, "note")
        self._print_hint(error)

    def _print_hint(self, error: TanukiError) -> None:
        if error.hint:
            self._print_err(_("  Hint: {hint}").format(hint=error.hint), "hint")

    def _print_err(self, text: str, style: str) -> None:
        text = sanitize(_hidden(text))
        if self.err_is_terminal or self.err_has_color:
            self.err.print(text, style=style, soft_wrap=True)
            return
        try:
            self.streams.stderr.write(f"{text}\n")
            self.streams.stderr.flush()
        except BrokenPipeError as exc:
            raise ClosedPipeError(_("The reader of the output went away.")) from exc

    def confirm(self, question: str, *, default: bool, at_end: bool = False) -> bool:
        """Ask yes or no on stderr; Enter takes the default. Ctrl-D, or a terminal that went away, agrees to
        nothing: it is ``at_end``, no matter the default.

        Understands :data:`YES` and :data:`NO`, full-width too. Raises InterruptedByUser at Ctrl-C. Call only
        if :attr:`can_ask`.
        """
        choices = "[Y/n]" if default else "[y/N]"
        while True:
            line = self.read_answer(f"{question} {choices} ")
            if not line:
                return at_end
            answer = fold(line).lower()
            if not answer:
                return default
            if answer in YES or answer in NO:
                return answer in YES
            self._print_err(_("Please answer y or n."), "note")

    def read_answer(self, question: str) -> str:
        """Ask on stderr and return the line that was typed, with its end; empty at Ctrl-D.

        Raises InterruptedByUser at Ctrl-C. Call only if :attr:`can_ask`.
        """
        try:
            line = self.typed.read(ask=lambda: self._put(question), show=self._show_typed)
        except KeyboardInterrupt as exc:
            self.err.print()
            raise InterruptedByUser(_("Interrupted.")) from exc
        if not line:
            self.err.print()
        return line

    def _put(self, question: str) -> None:
        self.err.print(self._folded(sanitize(question)), end="", soft_wrap=True)
        self.streams.stderr.flush()

    def _show_typed(self, text: str) -> None:
        self.streams.stderr.write(sanitize(text))
        self.streams.stderr.flush()

    def _folded(self, question: str) -> str:
        """In lines of the window, with room for an answer of one letter after the last one."""
        text = question.rstrip(" ")
        lines = wrap_text(text, max(self.err.width - 2, 1)) if self.err_is_terminal else [text]
        return "\n".join(lines) + question[len(text) :]

    def debug(self, text: str) -> None:
        """Write what only ``--debug`` asks for, such as a traceback, to stderr."""
        self.streams.stderr.write(sanitize(_hidden(text)))
        self.streams.stderr.flush()

    def show(self, text: str, *, style: str = "none") -> None:
        """Print what a question is about on stderr, also with ``--quiet``."""
        text = _hidden(text)
        rows = wrap_text(text, self.err.width) if self.err_is_terminal else [text]
        for row in rows:
            self._print_err(row, style)


def _hidden(text: str) -> str:
    """What we say, without keys and without the queries of addresses."""
    return hide_queries(redact(text))

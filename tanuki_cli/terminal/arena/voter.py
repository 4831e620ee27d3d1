"""Where questions and verdicts come from: a person at a terminal, or the lines of a script."""

import unicodedata
from typing import Final, Literal, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.defaults import create_output

from tanuki_cli.errors import InputError, InterruptedByUser
from tanuki_cli.evaluation.arena.labels import guess
from tanuki_cli.evaluation.arena.votes import LONGEST_TEXT, Verdict
from tanuki_cli.i18n import N_, _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.prompt_typing import PromptTyping
from tanuki_cli.text.width import cell_width

Choice = Verdict | Literal["more", "leave"]

_KEYS: Final[tuple[tuple[str, Choice, str], ...]] = (
    ("1", "first", N_("first")),
    ("2", "second", N_("second")),
    ("3", "tie", N_("both good")),
    ("4", "both-bad", N_("both bad")),
    ("s", "skip", N_("skip")),
    ("m", "more", N_("ask on")),
    ("q", "leave", N_("quit")),
)
_SEPARATOR: Final = " · "
_BY_KEY: Final[dict[str, Choice]] = {key: choice for key, choice, _label in _KEYS}


class Voter(Protocol):
    """Who asks and votes. Both methods raise InterruptedByUser at Ctrl-C.

    ``echoes`` says whether a question stands on the screen by having been typed.
    """

    echoes: bool

    def question(self) -> str | None:
        """The next question; empty for none after all, None to leave."""
        ...

    def choice(self) -> Choice:
        """What is thought of the two answers, or what is to be done next."""
        ...


class TerminalVoter:
    """A person. A vote is a key and Enter, so that it can be corrected, and typed through an input method."""

    echoes = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._prompt: PromptSession[str] | None = None
        self._typing: PromptTyping | None = None

    def question(self) -> str | None:
        """Ask at a prompt where Enter sends, and Alt-Enter breaks the line."""
        if not self._console.out_can_move_cursor:
            line = self._console.read_answer("> ")
            return line.strip() if line else None
        self._prompt = self._prompt or _open_prompt(self._console)
        self._typing = self._typing or PromptTyping(self._console.typed, self._prompt.input)
        self._typing.give()
        interrupted = InterruptedByUser(_("Interrupted."))
        try:
            text = self._prompt.prompt().strip()
        except EOFError:
            text = None
        except KeyboardInterrupt as exc:
            raise interrupted from exc
        if self._typing.take_back():
            raise interrupted
        return text

    def choice(self) -> Choice:
        """Ask until one of the keys is given; the end of the input leaves."""
        self._show_menu()
        while True:
            line = self._console.read_answer("> ")
            if not line:
                return "leave"
            if (choice := read_choice(line)) is not None:
                return choice
            self._show_menu()

    def _show_menu(self) -> None:
        for row in menu_rows(self._console.err.width):
            self._console.show(row, style="hint")


class ScriptVoter:
    """The lines of a stream: a question, then what is thought of the answers, and so on.

    Where the questions come from a file, every line is a verdict. The end of the lines leaves.
    """

    echoes = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = 0

    def question(self) -> str | None:
        """The next line that is not blank."""
        while line := self._read():
            if line.strip():
                return line.strip()
        return None

    def choice(self) -> Choice:
        """The next line that is not blank. Raises InputError that names a line which is no choice."""
        line = self.question()
        if line is None:
            return "leave"
        choice = read_choice(line)
        if choice is None:
            raise InputError(
                _("Line {line} is not a vote: {text!r}").format(line=self._line, text=line[:40]), hint=menu()
            )
        return choice

    def _read(self) -> str:
        self._line += 1
        return self._console.streams.stdin.readline(LONGEST_TEXT)


def menu() -> str:
    """The keys and what they mean, on one line."""
    return _SEPARATOR.join(_items())


def menu_rows(width: int) -> list[str]:
    """:func:`menu` on as many lines of ``width`` cells as it takes, no item broken."""
    rows = [""]
    for item in _items():
        longer = f"{rows[-1]}{_SEPARATOR}{item}" if rows[-1] else item
        if rows[-1] and cell_width(longer) > width:
            rows.append(item)
        else:
            rows[-1] = longer
    return rows


def _items() -> list[str]:
    return [f"{key} {_(label)}" for key, _choice, label in _KEYS]


def read_choice(text: str) -> Choice | None:
    """The choice that was typed, full-width or not: a key, its label, or a certain spelling of a vote."""
    word = unicodedata.normalize("NFKC", text).strip().lower()
    if word in _BY_KEY:
        return _BY_KEY[word]
    labels: dict[str, Choice] = {_(label): choice for _key, choice, label in _KEYS}
    return labels.get(word) or guess(word)


def _open_prompt(console: Console) -> PromptSession[str]:
    keys = KeyBindings()

    @keys.add(Keys.Enter)
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add(Keys.Escape, Keys.Enter)
    @keys.add(Keys.ControlJ)
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add(Keys.ControlC)
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return PromptSession(
        message="> ",
        multiline=True,
        prompt_continuation="  ",
        key_bindings=keys,
        color_depth=None if console.out_has_color else ColorDepth.DEPTH_1_BIT,
        output=create_output(always_prefer_tty=True),
    )

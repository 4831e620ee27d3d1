"""Everything that is typed at a terminal, in one order, however its modes change: no question, prompt or
change of a mode loses a key, or lets a line wait that was ended.

A terminal that edits lines (as usual) ends them by a line feed, and Ctrl-D by giving nothing. What was held
before (:func:`~tanuki_cli.terminal.typing_ahead.hold_typing`) has Enter and Ctrl-D as the keys they are; it
does not become a line when the terminal edits lines again, but can be read at once then.
"""

import codecs
import os
import re
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from tanuki_cli.terminal.typing_ahead import (
    PASTE_BEGINS,
    PASTE_ENDS,
    can_hold,
    is_held,
    usual_typing,
    without_sequences,
)

ENTER: Final = "\r"
CTRL_D: Final = "\x04"
_LINE_END: Final = re.compile(f"[{ENTER}\n{CTRL_D}]")
_NUL: Final = "\0"
"""What is read in place of a Ctrl-D that has ended a line, once the terminal is held; else it is Ctrl-Space,
which many change their input method with."""
_LONGEST: Final = 4096
_REST_WITHIN_S: Final = 0.2
"""How long the rest of a character is waited for, which was sent together with its beginning."""
_ERASE: Final = ("\x7f", "\b")
_ERASE_LINE: Final = "\x15"
_ERASE_WORD: Final = "\x17"


class TypedLines:
    """What was typed and read already, and the lines that are typed after it."""

    def __init__(self, stdin: TextIO) -> None:
        self._stdin = stdin
        self._typed = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def keep(self, typed: str) -> None:
        """Add ``typed``, which was read elsewhere."""
        self._typed += typed

    def keep_bytes(self, typed: bytes) -> None:
        """The same; the last character may be cut."""
        self._typed += self._decoder.decode(typed)

    def keep_waiting(self, *, just_held: bool = False) -> None:
        """Add what waits at the terminal, with Enter and Ctrl-D as the keys they were.

        ``just_held``: it was added before, the terminal ended lines until then, and it has held since.
        """
        while can_hold(self._stdin) and self.waits():
            piece = self._read()
            self._typed += piece.replace("\n", ENTER).replace(_NUL, CTRL_D if just_held else "")
            if piece == CTRL_D:  # or the terminal has gone, and gives nothing again and again
                return

    def take(self) -> str:
        """All of it, with no character cut; the next call gives only what was added since."""
        while self._decoder.getstate()[0] and self.waits(_REST_WITHIN_S):
            self._typed += self._read()
        self._decoder.reset()
        typed, self._typed = self._typed, ""
        return typed

    def read(self, *, ask: Callable[[], None], show: Callable[[str], None]) -> str:
        """The next line after ``ask`` has put the question, with ``\\n`` for the Enter that ended it.

        What of the line came before the question is shown by ``show``, the rest by the terminal. Empty at
        Ctrl-D, and where the terminal went away. At Ctrl-C a line that was begun is gone.
        """
        with self.lend():  # before the question: its answer may come at once
            if is_held():
                self.keep_waiting()  # after the change: what is typed before it would end no line
            ask()
            line, end = self._next(show)
        if line.rfind(PASTE_BEGINS) > line.rfind(PASTE_ENDS) and PASTE_ENDS in self._typed:
            self._typed = PASTE_BEGINS + self._typed  # else a prompt would send the rest line by line
        return _edited(line) + ("" if end == CTRL_D else "\n")

    @contextmanager
    def lend(self) -> Iterator[None]:
        """Let a question or another program have the terminal as usual, and keep what it leaves of the keys.

        Outside of :func:`~tanuki_cli.terminal.typing_ahead.hold_typing` that stays for whoever reads next.
        """
        held = is_held()
        try:
            with usual_typing(self._stdin):
                yield
                if held:
                    self.keep_waiting()
        finally:
            if held:
                self.keep_waiting(just_held=True)  # a prompt would take the line feed of an Enter for Ctrl-J

    def _next(self, show: Callable[[str], None]) -> tuple[str, str]:
        line, end, self._typed = _parted(self._typed)
        show(_edited(line) + ("" if end in {"", CTRL_D} else "\n"))
        if not end:
            rest, end, self._typed = _parted(self._rest())
            line += rest
        return line, end

    def _rest(self) -> str:
        if not can_hold(self._stdin):
            return self._stdin.readline() or CTRL_D
        typed = ""
        while not _LINE_END.search(typed):
            typed += self._read()
        return typed

    def waits(self, seconds: float = 0.0) -> bool:
        """Whether something can be read from the terminal, or is within ``seconds``."""
        return bool(select.select([self._stdin.fileno()], [], [], seconds)[0])

    def _read(self) -> str:
        """What the terminal gives at once, a line at most where it edits them."""
        piece = b""
        with suppress(OSError):  # it went away
            piece = os.read(self._stdin.fileno(), _LONGEST)
        return self._decoder.decode(piece) if piece else CTRL_D


def _parted(typed: str) -> tuple[str, str, str]:
    """The first line of ``typed``, the key that ends it, empty if none does, and what follows."""
    end = _LINE_END.search(typed)
    return (typed[: end.start()], end[0], typed[end.end() :]) if end else (typed, "", "")


def _edited(line: str) -> str:
    """``line`` as the terminal would have edited it, and without keys that type nothing."""
    kept = ""
    for key in without_sequences(line):
        if key in _ERASE:
            kept = kept[:-1]
        elif key == _ERASE_LINE:
            kept = ""
        elif key == _ERASE_WORD:
            kept = kept.rstrip()
            kept = kept[: kept.rfind(" ") + 1]
        else:
            kept += key
    return kept

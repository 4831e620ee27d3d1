"""A word that leaves other programs, alone on a line: asked about once instead of answered."""

from typing import Final, Literal

from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible
from tanuki_cli.options import fold
from tanuki_cli.terminal.console import Console

_WORDS: Final = frozenset(
    ("exit", "quit", "bye", "logout", ":q", ":q!", ":wq", ":x", ":qa", "exit()", "quit()", "終了")
)


class Farewell:
    """Remembers that it has asked: the second time such a word is a message like any other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._asked = False

    def decide(self, text: str) -> Literal["leave", "send", "stay"]:
        """What to do with ``text``; "stay" after Ctrl-C at the question."""
        if self._asked or fold(text).strip().lower() not in _WORDS or not self._console.can_ask:
            return "send"
        self._asked = True
        try:
            with interruptible():
                question = _("Leave the chat? “No” sends this word.")
                leaves = self._console.confirm(question, default=True, at_end=True)
        except (InterruptedByUser, KeyboardInterrupt):
            return "stay"
        return "leave" if leaves else "send"

"""Stop texts in a stream: nothing that could become one is shown before it is decided."""

from collections.abc import Iterable, Sequence
from typing import Final

from tanuki_cli.prompt import INSTRUCTION_HEADING

OWN_STOP: Final = INSTRUCTION_HEADING.removesuffix("\n")
"""The model beginning the user's next turn by itself, instead of ending its answer."""


class StopMatcher:
    """Withholds text while it may still grow into a stop text.

    Feed chunks as they come; once :attr:`stopped` is true the answer is over and the rest, the stop
    text included, is dropped. The earliest stop text in the answer wins.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops: Sequence[str] = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._beginnings = frozenset(stop[0] for stop in self._stops)
        self._pending = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take ``text`` and return what is safe to show; empty once stopped."""
        if self.stopped:
            return ""
        if not self._pending and self._beginnings.isdisjoint(text):  # the most common by far
            return text
        self._pending += text
        found = [at for stop in self._stops if (at := self._pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            safe, self._pending = self._pending[: min(found)], ""
            return safe
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._pending) - keep
        safe, self._pending = self._pending[:cut], self._pending[cut:]
        return safe

    def flush(self) -> str:
        """The withheld text, when the answer ended without a stop text."""
        safe, self._pending = self._pending, ""
        return safe

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the pending text that begins ``stop``."""
        longest = min(len(stop) - 1, len(self._pending))
        return next((size for size in range(longest, 0, -1) if self._pending.endswith(stop[:size])), 0)

"""Ctrl-C twice leaves the chat."""

import time
from typing import Final

WITHIN_S: Final = 2.0


class LeavingTwice:
    """Whether a Ctrl-C is the second one, which leaves: nothing was typed in between.

    The time for it runs from the moment in which the hint is on the screen: a machine that stalls takes
    nothing of it.
    """

    def __init__(self) -> None:
        self._asked = False
        self._until = 0.0

    def press(self) -> bool:
        """Ctrl-C was pressed: whether to leave. Otherwise the hint is to be shown."""
        leaves = self.asks
        self._asked = not leaves
        return leaves

    def shown(self) -> bool:
        """The hint, if it is to be shown, is on the screen: whether that is new."""
        was_asked, self._asked = self._asked, False
        if was_asked:
            self._until = time.monotonic() + WITHIN_S
        return was_asked

    def forget(self) -> None:
        """Who types on does not want to leave."""
        self._asked = False
        self._until = 0.0

    @property
    def asks(self) -> bool:
        """Whether the hint is to be shown."""
        return self._asked or time.monotonic() < self._until

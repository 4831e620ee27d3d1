"""A row that is drawn over again and again, in a window that may be made narrower at any time.

Most terminals then part a row that no longer fits, and the cursor stays with the character it stood behind:
on the last part, so that the first ones could not be found again. So the cursor waits where the row begins,
and all lines from there on are deleted. (To erase them would, in the first line, leave them in the scrollback
of tmux.) A window is narrower before the program is told: what is too long must not go on in the next row.
"""

from typing import Final, Protocol

from tanuki_cli.interrupts import hold_interrupts

WIPE_ROW: Final = "\r\x1b[99M"
"""What comes next stands in place of the row."""
BEGIN_ROW: Final = "\x1b[?7l"
"""What comes next stays in one row."""
END_ROW: Final = "\x1b[?7h\r"
"""What comes next goes on in the next row again; back to where this one begins."""


class Live(Protocol):
    """A live row of rich's."""

    def start(self) -> None:
        """Hide the cursor, take stdout and stderr over, and begin to draw."""

    def stop(self) -> None:
        """Undo that."""


def begin_row(live: Live) -> None:
    """Start ``live``, as a whole or not at all: Ctrl-C in between would leave a terminal without a cursor."""
    try:
        with hold_interrupts():
            live.start()
    except KeyboardInterrupt:
        end_row(live)
        raise


def end_row(live: Live) -> None:
    """Stop ``live``, as a whole."""
    with hold_interrupts():
        live.stop()

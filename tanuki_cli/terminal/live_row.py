"""A row that is drawn over again and again, in a window that may be made narrower at any time.

Most terminals then part a row that no longer fits, and the cursor stays with the character it stood behind:
on the last part, so that the first ones could not be found again. So the cursor waits where the row begins,
and all lines from there on are deleted. (To erase them would, in the first line, leave them in the scrollback
of tmux.) A window is narrower before the program is told: what is too long must not go on in the next row.
"""

from typing import Final

WIPE_ROW: Final = "\r\x1b[99M"
"""What comes next stands in place of the row."""
BEGIN_ROW: Final = "\x1b[?7l"
"""What comes next stays in one row."""
END_ROW: Final = "\x1b[?7h\r"
"""What comes next goes on in the next row again; back to where this one begins."""

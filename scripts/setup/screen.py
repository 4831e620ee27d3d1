"""The terminal while the environment is made: what is said goes to stderr."""

import os
import shutil
import sys
import unicodedata


def tell(line: str) -> None:
    """One line for the user."""
    print(line, file=sys.stderr, flush=True)


class Stderr:
    """Implements :class:`~tanuki_cli.engines.llama_cpp.building.running.Screen`."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def tell(self, line: str) -> None:
        """On a line of its own."""
        tell(line)

    def begin(self, title: str) -> None:
        """Its title, where nothing can be written over."""
        if not self._is_live:
            tell(f"{title}…")

    def go_on(self, line: str) -> None:
        """Over the last one; no longer than the terminal is wide, or it could not be written over."""
        if self._is_live:
            sys.stderr.write(f"\r{_cut(line, shutil.get_terminal_size().columns - 1)}\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the last one."""
        if self._is_live:
            sys.stderr.write("\n")


def _cut(line: str, cells: int) -> str:
    for index, char in enumerate(line):
        # "A": ambiguous ones, which a Japanese terminal may draw wide.
        cells -= 2 if unicodedata.east_asian_width(char) in "WFA" else 1
        if cells < 0:
            return line[:index]
    return line

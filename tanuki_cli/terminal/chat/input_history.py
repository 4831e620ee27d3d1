"""What was typed at the prompt, for the arrow keys and Ctrl-R: kept as long as the conversations are."""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from tanuki_cli.files import write_atomically

_PRIVATE: Final = 0o600
_COMMAND: Final = re.compile(r"/\w+\s*|/(?=/)")


class _InputHistory(FileHistory):
    """Adds to the file only while ``keeps()``; what cannot be written is known until the chat ends."""

    def __init__(self, path: Path, *, keeps: Callable[[], bool]) -> None:
        super().__init__(str(path))
        self._keeps = keeps

    def store_string(self, string: str) -> None:
        if self._keeps():
            with suppress(OSError):
                super().store_string(string)


def open_input_history(path: Path, *, keeps: Callable[[], bool]) -> History:
    """Past input, in a file for its owner only; while not ``keeps()``, what is typed stays in memory."""
    if not keeps() and not path.exists():
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _PRIVATE))
    except OSError:
        return InMemoryHistory()
    return _InputHistory(path, keeps=keeps)


def forget_input(path: Path, texts: Iterable[str] | None) -> None:
    """Remove every input that is a part of one of ``texts``, or holds one, from the file; all if None.

    Rather too much than too little: a message may be what was typed with a file after it, and a command
    (``/system …``) holds what it set. Raises OSError.
    """
    if texts is None:
        path.unlink(missing_ok=True)
        return
    if not path.exists():
        return
    forgotten = [plain for plain in map(_plain, texts) if plain]
    kept = ""
    for entry in _entries(path.read_text(encoding="utf-8", errors="replace")):
        typed = "\n".join(line[1:] for line in entry.split("\n") if line.startswith("+"))
        forms = {_plain(typed), _plain(_COMMAND.sub("", typed, count=1))} - {""}
        if not any(form in text or text in form for form in forms for text in forgotten):
            kept += entry
    write_atomically(path, kept, mode=_PRIVATE)


def _entries(content: str) -> list[str]:
    """The inputs with their times, as FileHistory writes them: a comment, then lines that begin with +."""
    return [entry for entry in re.split(r"(?m)^(?=#)", content) if entry]


def _plain(text: str) -> str:
    return " ".join(text.split())

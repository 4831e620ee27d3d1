"""What can be wrong with a history file, as errors of ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tanuki_cli.errors import HistoryError
from tanuki_cli.i18n import N_, _

_SQLITE_REASONS: Final = {
    "readonly": N_("it can be read, but not written"),
    "unable to open": N_("it cannot be opened"),
}
_SIGNS_OF_DAMAGE: Final = (
    "malformed", "not a database", "corrupt", "unsupported file format", "no such table", "no such column",
    "has no column named",
)  # fmt: skip


class DamagedError(HistoryError):
    """SQLite says that the file is not a sound database."""


class NoRoomError(HistoryError):
    """The disk takes no more: neither a save, nor what SQLite keeps beside the file while it is read."""


class BusyError(HistoryError):
    """Another process holds the lock."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours; its codes are not in Python 3.10, so its words are compared."""
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
        # The latter where SQLite tells of a name in the file that is not even text.
        text = str(exc) if isinstance(exc, sqlite3.DatabaseError) else "malformed"
        if "locked" in text or "busy" in text:
            raise busy(path) from exc
        if any(sign in text for sign in _SIGNS_OF_DAMAGE):
            raise DamagedError(
                _("The history {path} is damaged: {reason}").format(path=path, reason=text),
                hint="tanuki history recover",
            ) from exc
        if "disk is full" in text or "disk I/O" in text:
            raise NoRoomError(
                _("The history {path} cannot be saved: the disk is full or failing.").format(path=path),
                hint=f"df -h {path.parent}",
            ) from exc
        reason = next((_(words) for sign, words in _SQLITE_REASONS.items() if sign in text), text)
        raise HistoryError(
            _("The history {path} cannot be used: {reason}").format(path=path, reason=reason),
            hint=permission_hint(path),
        ) from exc


def busy(path: Path) -> BusyError:
    """The error for a lock that others did not give back in time."""
    return BusyError(
        _("The history is held by another process: {path}").format(path=path),
        hint=_("Close the other tanuki, then try again."),
    )


def permission_hint(path: Path) -> str:
    """What to look at where the system refuses the file."""
    return _("Check with: ls -ld {directory} {path}").format(directory=path.parent, path=path)

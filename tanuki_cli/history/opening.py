"""Opening the history file: made for its user only, checked before anything in it is read."""

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Final

from tanuki_cli.errors import HistoryError
from tanuki_cli.files import os_reason
from tanuki_cli.history.faults import DamagedError, permission_hint
from tanuki_cli.history.schema import refuse_newer, schema_version
from tanuki_cli.i18n import _

_BUSY_TIMEOUT_S: Final = 5.0
# A check of every page; above this size only what is read is checked.
_QUICK_CHECK_MAX_BYTES: Final = 8 << 20
_HEADER_BYTES: Final[dict[int, tuple[int, ...]]] = {
    18: (1, 2),  # write version: rollback journal or WAL
    19: (1, 2),  # read version
    20: (0,),  # bytes reserved at the end of a page
    21: (64,),
    22: (32,),
    23: (32,),
}
_MERE_VALUES: Final = ("CHECK constraint failed", "NULL value in")
_SCHEMA_FORMATS: Final = range(5)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file is at ``path``; None if there is none. Raises HistoryError where that is kept secret."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise HistoryError(
            _("The history {path} cannot be used: {reason}").format(path=path, reason=os_reason(exc)),
            hint=permission_hint(path),
        ) from exc
    return status.st_dev, status.st_ino


def make_private(path: Path) -> None:
    """Make the file and its directory for this user only, where they are missing."""
    try:
        if not path.parent.is_dir():
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if path.stat().st_mode & 0o077 and os.access(path, os.W_OK):
                path.chmod(0o600)
    except OSError as exc:
        raise HistoryError(
            _("The history {path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
            hint=permission_hint(path),
        ) from exc


def connect(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """Open the file; where it cannot be written, for reading only.

    ``alone`` is for reading a file that has no log, where nothing can be written beside it.
    """
    options = "immutable=1" if alone else "mode=rw"
    if not alone and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        wal = path.with_name(path.name + "-wal")
        # Readers of a WAL file write into -shm, unless they are told that nobody else is there.
        options = "mode=ro" if wal.exists() and wal.stat().st_size else "immutable=1"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    # One bad byte in one answer must not keep anybody from the others.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    return connection


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file. Raises DamagedError if it is not sound, HistoryError if it is a newer one."""
    _check_header(path)
    version = schema_version(connection)
    refuse_newer(version, path)
    if path.stat().st_size <= _QUICK_CHECK_MAX_BYTES:
        problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(100)")]
        # A value that no writer of ours would store is its reader's business: the others are whole.
        structural = [problem for problem in problems if not problem.startswith(_MERE_VALUES)]
        if structural and structural != ["ok"]:
            raise DamagedError(structural[0])
    if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger'").fetchone():
        raise DamagedError("it holds statements of its own")
    return version


def _check_header(path: Path) -> None:
    """Raise DamagedError where the first bytes are none that SQLite writes for us.

    With some of them it would only read, with others refuse a file in which every text is whole. To be
    called before the connection has read anything: to close the file lets go of all locks on it.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return  # new
    wrong = len(header) < 100 or any(
        header[offset] not in allowed for offset, allowed in _HEADER_BYTES.items()
    )
    if wrong or int.from_bytes(header[44:48], "big") not in _SCHEMA_FORMATS:
        raise DamagedError("the header is not one of SQLite's")

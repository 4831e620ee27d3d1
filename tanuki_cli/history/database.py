"""The history file: opened at first use, shared with other processes, set aside when damaged."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from tanuki_cli.errors import HistoryError
from tanuki_cli.files import os_reason
from tanuki_cli.history.schema import SCHEMA_VERSION, migrate, refuse_newer, schema_version
from tanuki_cli.i18n import N_, _

T = TypeVar("T")

LOCK_TIMEOUT_S: Final = 30.0
_BUSY_TIMEOUT_S: Final = 5.0
_RETRY_PAUSE_S: Final = 0.02
# A check of every page; above this size only what is read is checked.
_QUICK_CHECK_MAX_BYTES: Final = 8 << 20
_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"
_SQLITE_REASONS: Final = {
    "readonly": N_("it can be read, but not written"),
    "unable to open": N_("it cannot be opened"),
}
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
_SIDE_FILES: Final = ("-wal", "-shm")


class DamagedError(HistoryError):
    """SQLite says that the file is not a sound database."""


class BusyError(HistoryError):
    """Another process holds the lock."""


class Database:
    """One connection to the history file.

    Nothing is touched before the first :meth:`read` or :meth:`write`. ``notify`` is given a sentence
    when a damaged file was set aside. The file and its directory are made private (0600, 0700); the
    modes of -wal and -shm follow the file's.
    """

    def __init__(self, path: Path, *, notify: Callable[[str], None]) -> None:
        self.path = path
        self._notify = notify
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def read(self, operation: Callable[[sqlite3.Connection], T], *, missing: T) -> T:
        """Run ``operation`` on one snapshot; ``missing`` where there is no file, or only a damaged one."""
        if _identity(self.path) is None:
            return missing
        try:
            return self._attempt(_READ, operation)
        except DamagedError:
            self._set_aside()
            return missing

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``operation`` as one transaction: all of it is on disk when this returns, or none.

        A damaged file is set aside and ``operation`` runs once more, on a new one.
        """
        try:
            return self._attempt(_WRITE, operation)
        except DamagedError:
            self._set_aside()
            return self._attempt(_WRITE, operation)

    def rewrite(self) -> None:
        """Write the file anew, and empty its log: nothing that was deleted is left in either.

        Takes a second or so for each 50 MB. Raises HistoryError; all is as it was then.
        """
        self._attempt(None, lambda connection: connection.execute("VACUUM"))
        self._attempt(None, self._empty_log)

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        is_read = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_read:
            raise _busy(self.path)

    def _attempt(self, begin: str | None, operation: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction, tried again for as long as other processes hold the lock; ``begin`` None for
        what is none."""
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                with _translated(self.path):
                    connection = self._open(create=begin != _READ)
                    with _transaction(connection, begin) if begin else nullcontext():
                        return operation(connection)
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_PAUSE_S)

    def _open(self, *, create: bool) -> sqlite3.Connection:
        """The connection to the file that is at ``path`` now.

        Another process may have set the file aside since: a write into that one would be lost.
        """
        if self._connection is not None:
            if _identity(self.path) == self._identity:
                return self._connection
            self.close()
        if create:
            _make_private(self.path)
        self._identity = _identity(self.path)
        connection = _connect(self.path)
        try:
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def set_aside(self) -> Path:
        """Rename the file, with its side files, so that a new one can take its place; its new name."""
        self.close()
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        count = 1
        while target.exists():
            count += 1
            target = self.path.with_name(f"{self.path.name}.corrupt-{stamp}-{count}")
        try:
            self.path.replace(target)
            for suffix in _SIDE_FILES:
                side = self.path.with_name(self.path.name + suffix)
                if side.exists():
                    side.replace(target.with_name(target.name + suffix))
        except OSError as exc:
            raise HistoryError(
                _("The history {path} is damaged and cannot be moved aside: {reason}").format(
                    path=self.path, reason=os_reason(exc)
                ),
                hint=_("Check the permissions of {path}.").format(path=self.path.parent),
            ) from exc
        return target

    def _set_aside(self) -> None:
        """Set the damaged file aside, and say so."""
        self.close()
        if _identity(self.path) != self._identity:
            return  # another process was faster
        target = self.set_aside()
        self._notify(
            _(
                "The history was damaged. It was kept as {path} and a new one was started; "
                "`tanuki history recover` saves what can be read."
            ).format(path=target)
        )


def set_aside_files(path: Path) -> list[Path]:
    """The damaged files that were set aside from ``path``, oldest first."""
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(file for file in found if not file.name.endswith(_SIDE_FILES))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at ``path``; None if there is none. Raises HistoryError where that is kept secret."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise HistoryError(
            _("The history {path} cannot be used: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_permission_hint(path),
        ) from exc
    return status.st_dev, status.st_ino


def _make_private(path: Path) -> None:
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
            hint=_permission_hint(path),
        ) from exc


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; where it cannot be written, for reading only."""
    options = "mode=rw"
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
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


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file, set up the connection, and bring the file up to this version."""
    _check_header(path)
    version = schema_version(connection)
    refuse_newer(version, path)
    if path.stat().st_size <= _QUICK_CHECK_MAX_BYTES:
        problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(100)")]
        # A value that no writer of ours would store is its reader's business: the others are whole.
        structural = [problem for problem in problems if not problem.startswith(_MERE_VALUES)]
        if structural and structural != ["ok"]:
            raise DamagedError(structural[0])
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if version < SCHEMA_VERSION:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        with _transaction(connection, _WRITE):
            migrate(connection)


def _check_header(path: Path) -> None:
    """Raise DamagedError where the first bytes are none that SQLite writes for us.

    With some of them it would only read, with others refuse a file in which every text is whole.
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


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute(begin)
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours; its codes are not in Python 3.10, so its words are compared."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        text = str(exc)
        if "locked" in text or "busy" in text:
            raise _busy(path) from exc
        if any(
            sign in text for sign in ("malformed", "not a database", "corrupt", "unsupported file format")
        ):
            raise DamagedError(
                _("The history {path} is damaged: {reason}").format(path=path, reason=text),
                hint="tanuki history recover",
            ) from exc
        if "disk is full" in text or "disk I/O" in text:
            raise HistoryError(
                _("The history {path} cannot be saved: the disk is full or failing.").format(path=path),
                hint=f"df -h {path.parent}",
            ) from exc
        reason = next((_(words) for sign, words in _SQLITE_REASONS.items() if sign in text), text)
        raise HistoryError(
            _("The history {path} cannot be used: {reason}").format(path=path, reason=reason),
            hint=_permission_hint(path),
        ) from exc


def _busy(path: Path) -> BusyError:
    return BusyError(
        _("The history is held by another process: {path}").format(path=path),
        hint=_("Close the other tanuki, then try again."),
    )


def _permission_hint(path: Path) -> str:
    return _("Check with: ls -ld {directory} {path}").format(directory=path.parent, path=path)

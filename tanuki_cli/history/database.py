"""The history file: opened at first use, shared with other processes, set aside when damaged."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from tanuki_cli.errors import HistoryError
from tanuki_cli.files import os_reason
from tanuki_cli.history.faults import BusyError, DamagedError, NoRoomError, busy, translated
from tanuki_cli.history.log import holds_more, is_empty, log_path
from tanuki_cli.history.opening import check, connect, identity_of, make_private
from tanuki_cli.history.schema import SCHEMA_VERSION, migrate
from tanuki_cli.i18n import _

T = TypeVar("T")

LOCK_TIMEOUT_S: Final = 30.0
_RETRY_PAUSE_S: Final = 0.02
_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"
_SIDE_FILES: Final = ("-wal", "-shm")


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
        if identity_of(self.path) is None:
            return missing
        try:
            return self._attempt(_READ, operation)
        except NoRoomError:
            if not is_empty(self.path):  # what is in the log would be missing
                raise
            self.close()  # the next use opens it again
            with translated(self.path), closing(connect(self.path, alone=True)) as connection:
                if check(connection, self.path) < SCHEMA_VERSION:  # bringing it up takes room
                    raise
                with _transaction(connection, _READ):
                    return operation(connection)
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
            raise busy(self.path)

    def _attempt(self, begin: str | None, operation: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction, tried again for as long as other processes hold the lock; ``begin`` None for
        what is none."""
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                with translated(self.path):
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
            if identity_of(self.path) == self._identity:
                return self._connection
            self.close()
        if create:
            make_private(self.path)
        self._identity = identity_of(self.path)
        connection = connect(self.path)
        try:
            version = check(connection, self.path)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")
            # The log then holds whole transactions: one cut off is damage, or a process killed just then.
            connection.execute("PRAGMA cache_spill = OFF")
            if self._keep_log(connection):  # before anything is written
                connection.close()
                return self._open(create=create)
            if version < SCHEMA_VERSION:
                _bring_up(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _keep_log(self, connection: sqlite3.Connection) -> bool:
        """Keep a copy where the log has more in it than SQLite reads, and say so: a save overwrites it.

        True if there was one: copying the file lets go of the locks of ``connection``, which must be closed.
        """
        if is_empty(self.path) or not os.access(self.path, os.W_OK) or not self._log_holds_more():
            return False
        with _transaction(connection, _WRITE):  # now nobody is about to save
            if not self._log_holds_more():
                return False
            target = self._name_aside()
            try:
                for source, copy in ((self.path, target), (log_path(self.path), log_path(target))):
                    shutil.copyfile(source, copy)
                    copy.chmod(0o600)
            except OSError as exc:
                raise self._cannot_be_kept(exc) from exc
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._notify(
            _(
                "The last entries of the history were cut off or damaged. They were kept in {path}; "
                "`tanuki history recover` saves what can be read."
            ).format(path=target)
        )
        return True

    def _log_holds_more(self) -> bool:
        """Whether SQLite leaves out something of the log; it is asked how much it reads, beside the
        connection, which may be in a transaction."""
        with closing(connect(self.path)) as other:
            _busy, read, _moved = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(read >= 0 and holds_more(self.path, read=read))

    def set_aside(self) -> Path:
        """Rename the file, with its side files, so that a new one can take its place; its new name."""
        self.close()
        target = self._name_aside()
        try:
            self.path.replace(target)
            for suffix in _SIDE_FILES:
                side = self.path.with_name(self.path.name + suffix)
                if side.exists():
                    side.replace(target.with_name(target.name + suffix))
        except OSError as exc:
            raise self._cannot_be_kept(exc) from exc
        return target

    def _name_aside(self) -> Path:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        count = 1
        while target.exists():
            count += 1
            target = self.path.with_name(f"{self.path.name}.corrupt-{stamp}-{count}")
        return target

    def _cannot_be_kept(self, exc: OSError) -> HistoryError:
        return HistoryError(
            _("The history {path} is damaged and cannot be moved aside: {reason}").format(
                path=self.path, reason=os_reason(exc)
            ),
            hint=_("Check the permissions of {path}.").format(path=self.path.parent),
        )

    def _set_aside(self) -> None:
        """Set the damaged file aside, and say so."""
        self.close()
        if identity_of(self.path) != self._identity:
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


def _bring_up(connection: sqlite3.Connection) -> None:
    """Make a file of an earlier version, or an empty one, one of this version."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    with _transaction(connection, _WRITE):
        migrate(connection)


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

"""Files read within bounds and replaced in one step; and why the system refused, in the user's language
(``strerror`` speaks English only)."""

import errno
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import N_, _

_LOCK_TIMEOUT_S: Final = 30.0

_REASONS: Final[Mapping[int, str]] = {
    errno.ENOENT: N_("there is no such file or folder"),
    errno.EISDIR: N_("it is a folder"),
    errno.ENOTDIR: N_("a part of the path is not a folder"),
    errno.EACCES: N_("permission denied"),
    errno.EPERM: N_("the system does not allow it"),
    errno.EROFS: N_("the disk is read-only"),
    errno.EEXIST: N_("it is there already"),
    errno.ENOSPC: N_("the disk is full"),
    errno.EDQUOT: N_("your share of the disk is full"),
    errno.EFBIG: N_("the file would be too large"),
    errno.ENOMEM: N_("there is not enough memory"),
    errno.EIO: N_("the disk reports an error"),
    errno.ENAMETOOLONG: N_("the name is too long"),
    errno.ELOOP: N_("its links lead in a circle"),
    errno.EMFILE: N_("too many files are open"),
    errno.EADDRINUSE: N_("another program listens there"),
    errno.EADDRNOTAVAIL: N_("this machine does not have that address"),
    errno.ECONNREFUSED: N_("nothing listens there"),
    errno.ECONNRESET: N_("the connection was cut"),
    errno.ECONNABORTED: N_("the connection was cut"),
    errno.EPIPE: N_("the connection was cut"),
    errno.ETIMEDOUT: N_("there was no answer in time"),
    errno.EHOSTUNREACH: N_("there is no way to that machine"),
    errno.ENETUNREACH: N_("the network cannot be reached"),
}


def os_reason(exc: OSError) -> str:
    """What ``exc`` says as part of a sentence; in the system's own words where they are rare."""
    import socket  # takes longer than most programs need to find nothing wrong

    if isinstance(exc, socket.gaierror):
        return _("no machine has this name")
    if isinstance(exc, TooLargeError):
        return _("it is too large")
    if isinstance(exc, NotAFileError):
        return _("it is not a regular file")
    code = errno.ETIMEDOUT if isinstance(exc, TimeoutError) else exc.errno or 0
    if code in _REASONS:
        return _(_REASONS[code])
    return exc.strerror or str(exc)


def real_path(path: Path) -> Path:
    """``path`` without links, as far as that goes; ``Path.resolve`` raises where they form a circle."""
    return Path(os.path.realpath(path))


def expand_home(path: str | Path) -> Path:
    """``path`` with ``~`` replaced, where that home is known; ``Path.expanduser`` raises where it is not."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def as_typed(path: str | Path) -> Path:
    """The file that somebody names; where none has that name, one that has it half-width."""
    written, folded = expand_home(path), expand_home(unicodedata.normalize("NFKC", str(path)))
    is_there = str(folded) == "-" or os.path.exists(folded)  # noqa: PTH110 - which never raises
    return folded if is_there and not os.path.lexists(written) else written


class TooLargeError(OSError):
    """A file or a stream holds more than its reader takes."""


class NotAFileError(OSError):
    """A pipe, a device or the like stands where a file should."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; only a file: opening a pipe could wait for ever. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError
    return open(descriptor, "rb")  # noqa: PTH123 - of a descriptor


def read_bounded(path: Path, *, limit: int) -> bytes:
    """The content of a file of ours, at most ``limit`` bytes. Never waits for a pipe. Raises OSError."""
    with open_regular(path) as file:
        return read_stream(file, limit=limit)


def read_stream(stream: BinaryIO, *, limit: int) -> bytes:
    """What is left of ``stream``. Raises TooLargeError as soon as that is more than ``limit`` bytes."""
    parts: list[bytes] = []
    left = limit
    while part := stream.read(min(left + 1, 1 << 20)):
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise TooLargeError
    return b"".join(parts)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let reading, changing and writing ``path`` be one step, beside other processes that lock it, too.

    Where no lock can be had (a folder that cannot be written) the writing will tell. Raises SettingsError
    if another process holds it for half a minute.
    """
    from filelock import FileLock, Timeout  # what only reads needs no lock

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_TIMEOUT_S)
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock)
        except Timeout as exc:
            raise SettingsError(
                _("{path} is being written by another run of tanuki.").format(path=path),
                hint=_("Wait until it has ended."),
            ) from exc
        except (OSError, NotImplementedError):  # the latter from file systems without locks
            pass
        yield


@contextmanager
def replacing(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends: readers find the old one or the new.

    Folders that are missing are made. A link stays, and its file is written; a file that was there keeps
    its permissions, a new one gets ``mode`` (default: the usual ones). ``durable`` False does not wait for
    the disk, for what can be made again. Raises OSError; then, and if the block raises, nothing is left.

    What is no file, such as /dev/stdout, cannot be replaced: it takes what is written as it comes.
    """
    if path.exists() and not path.is_file():
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody reads
        os.set_blocking(descriptor, True)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path = real_path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomically(path: Path, text: str, *, mode: int | None = None) -> None:
    """Make ``text`` the content of ``path`` in one step, as :func:`replacing` does. Raises OSError."""
    with replacing(path, mode=mode) as file:
        file.write(text.encode("utf-8"))

"""Files of one JSON object a line, as every evaluation tool keeps its records.

Reading gives what can be read and names the rest. Writing only appends: a line is on the disk before
:meth:`RecordFile.append` returns, and the torn end of a line that a killed program left is cut off
before the next one, so that nothing is there twice and nothing whole is lost.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from filelock import FileLock, Timeout
from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

JsonObject = Mapping[str, Any]

MAX_FILE_BYTES: Final = 512 << 20
_MAX_LINE_BYTES: Final = 64 << 20
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class LeftOut(Struct, frozen=True, kw_only=True):
    """A line that could not be used, counted from 1, and why."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return _("{path}, line {line}, was left out: {reason}.").format(
            path=self.path, line=self.line, reason=self.reason
        )


def read_lines(
    path: Path, *, limit: int | None = MAX_FILE_BYTES
) -> Iterator[tuple[int, JsonObject | LeftOut]]:
    """The objects of ``path`` with their line numbers; blank lines are skipped.

    Raises InputError if the file cannot be read, is no ordinary file or is larger than ``limit`` bytes;
    None is for a file of ours that is read line by line.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, _("it is not an ordinary file"))
            if limit is not None and status.st_size > limit:
                raise _unreadable(path, _("it is too large"))
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except OSError as exc:
        raise _unreadable(path, os_reason(exc)) from exc


def _object(path: Path, number: int, line: bytes) -> JsonObject | LeftOut:
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        return LeftOut(path=path, line=number, reason=_("it is not valid UTF-8"))
    except (ValueError, RecursionError):
        return LeftOut(path=path, line=number, reason=_("it is not valid JSON"))
    if not isinstance(value, dict):
        return LeftOut(path=path, line=number, reason=_("it is not a JSON object"))
    return value


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        _("{name} cannot be read: {reason}.").format(name=path, reason=reason),
        hint=_("Check the name and the permissions."),
    )


@contextmanager
def writing_alone(path: Path, *, wait_s: float = 0.0, private: bool = False) -> Iterator[None]:
    """Hold ``path`` against every other run that writes it; its folders are made.

    Raises InputError if another process holds it, for longer than ``wait_s`` seconds.
    """
    with ExitStack() as stack:
        try:
            _make_folder(path, private=private)
            stack.enter_context(FileLock(path.with_name(f".{path.name}.lock"), timeout=wait_s))
        except Timeout as exc:
            raise InputError(
                _("{path} is being written by another run of tanuki.").format(path=path),
                hint=_("Wait until it has ended."),
            ) from exc
        except OSError as exc:
            raise unwritable(path, exc) from exc
        yield


def unwritable(path: Path, exc: OSError) -> InputError:
    """The error for a file that cannot be written."""
    return InputError(
        _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
        hint=_("Choose another folder with --output; what is written already stays."),
    )


def _make_folder(path: Path, *, private: bool) -> None:
    path.parent.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)


class RecordFile:
    """A file that records are appended to, by one process at a time. Use as a context manager.

    Entering makes the file and its folders, and raises InputError if they cannot be written or another
    process holds the file, for longer than ``wait_s`` seconds. ``lock`` False is for a file that lies under
    the lock of another; a ``private`` one is made so that only its owner can read it.
    """

    def __init__(self, path: Path, *, lock: bool = True, wait_s: float = 0.0, private: bool = False) -> None:
        self.path = path
        self._lock = lock
        self._wait_s = wait_s
        self._private = private
        self._stack = ExitStack()
        self._descriptor = -1

    def __enter__(self) -> "RecordFile":
        with ExitStack() as stack:
            if self._lock:
                stack.enter_context(writing_alone(self.path, wait_s=self._wait_s, private=self._private))
            try:
                _make_folder(self.path, private=self._private)
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(self.path, flags, 0o600 if self._private else 0o666)
                stack.callback(os.close, self._descriptor)
                self._mend_end()
            except OSError as exc:
                raise unwritable(self.path, exc) from exc
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, *records: JsonObject) -> None:
        """Write ``records`` and wait until the disk has them. Raises InputError if they cannot be written.

        Lone surrogates, which UTF-8 cannot hold, become U+FFFD.
        """
        text = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        data = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text).encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as exc:
            raise unwritable(self.path, exc) from exc

    def remove(self) -> None:
        """Delete the file; nothing can be appended any more."""
        try:
            self.path.unlink()
        except OSError as exc:
            raise unwritable(self.path, exc) from exc

    def _mend_end(self) -> None:
        """End the last line, or cut it off if it was never whole."""
        size = os.fstat(self._descriptor).st_size
        end = b""
        start = size
        while start > 0 and b"\n" not in end:
            step = min(start, 1 << 16)
            start -= step
            os.lseek(self._descriptor, start, os.SEEK_SET)
            end = os.read(self._descriptor, step) + end
        tail = end[end.rfind(b"\n") + 1 :]
        if not tail:
            return
        if isinstance(_object(self.path, 0, tail), LeftOut):
            os.ftruncate(self._descriptor, size - len(tail))
        else:
            os.write(self._descriptor, b"\n")

"""KV caches on disk, so that a conversation goes on without computing its past again.

A file is llama.cpp's own sequence state, named by what it fits (model file and settings) and by the
digest of its content under a secret of this user's: written under another name and renamed, checked
before use, and thrown away without a word when it does not fit. Private like the history: only its owner
can read it, and what somebody else put there is not used.
"""

import hashlib
import os
import shutil
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.gguf import part_paths
from tanuki_cli.engines.llama_cpp.kv_layout import HEAD, MAGIC
from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.files import open_regular, real_path

if sys.platform != "win32":
    import fcntl

DEFAULT_MAX_BYTES: Final = 2 << 30
_SUFFIX: Final = ".kv"
_TEMPORARY: Final = ".part"
_SECRET: Final = "secret"
_SECRET_BYTES: Final = 32
_SPARE_DISK_BYTES: Final = 512 << 20
"""Left free on the disk whatever the cap allows."""
_UNUSED_S: Final = 30 * 86400.0
"""States that nobody used for so long are removed: what they were made of may be private."""
_ABANDONED_S: Final = 600.0
"""Where files cannot be locked: one that nobody wrote to for so long belongs to a process that is gone."""

Fits = Callable[[Path], bool]


class KvStore(Struct, frozen=True):
    """A folder of states, the least recently used ones removed above ``max_bytes`` in all, and after 30 days.

    Several processes may share it. Neither finding nor saving raises for a broken file or a full disk: a
    state that cannot be written or read is only slower.
    """

    folder: Path
    max_bytes: int = DEFAULT_MAX_BYTES

    def find(
        self, key: str, prompt_ids: Sequence[int], *, more_than: int, fits: Fits, max_ids: int = 1 << 20
    ) -> Path | None:
        """The state for ``key`` that shares most with ``prompt_ids``, and more than that many ids.

        Only states of at most ``max_ids`` ids count. What is returned is what this user wrote, and
        ``fits``; what is not is removed.
        """
        if not self._is_private():
            return None
        self._remove_abandoned()
        self._evict()
        secret = self._secret()
        found = []
        for path in self._files(key):
            ids = _read_ids(path)
            shared = shared_prefix(ids, prompt_ids)
            if shared > more_than and len(ids) <= max_ids:
                found.append((shared, -len(ids), path))
        for _shared, _shortest_first, path in sorted(found, reverse=True):
            if fits(path) and secret and path.stem.rpartition("-")[2] == _digest(path, secret):
                _touch(path)
                return path
            remove_quietly(path)
        return None

    def save(
        self,
        key: str,
        ids: Sequence[int],
        write: Callable[[Path], int],
        *,
        nbytes: int,
        fits: Fits,
        head: int = 0,
    ) -> bool:
        """Keep the state of ``ids``, at most ``nbytes`` long, that ``write`` puts into the file it is
        given, returning the bytes written, 0 for a failure.

        Earlier states of the same text are replaced, but not one of the first ``head`` ids, which many
        conversations share. Returns whether it was kept.
        """
        temporary = self.folder / f"{os.urandom(8).hex()}{_TEMPORARY}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            secret = self._secret(make=True) if self._is_private() else b""
            self._remove_abandoned()
            room = min(self.max_bytes, shutil.disk_usage(self.folder).free - _SPARE_DISK_BYTES)
            if not secret or nbytes > room:
                return False
            with _Held(temporary):
                # llama.cpp stops the process on a state that is cut short: none may get in.
                written = write(temporary)
                if not written or temporary.stat().st_size != written or not fits(temporary):
                    return False
                digest = _digest(temporary, secret)
            earlier = [path for path in self._files(key) if _is_start(_read_ids(path), ids, head)]
            final = self.folder / f"{key}-{digest}{_SUFFIX}"
            temporary.replace(final)
            for path in earlier:
                if path != final:
                    remove_quietly(path)
            self._evict()
        except OSError:
            return False
        finally:
            remove_quietly(temporary)
        return True

    def clear(self) -> None:
        """Remove every state, whole or not. Raises OSError after all that could go has gone."""
        failure: OSError | None = None
        for path in [*self.folder.glob(f"*{_SUFFIX}"), *self.folder.glob(f"*{_TEMPORARY}")]:
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                failure = exc
        if failure is not None:
            raise failure

    def _files(self, key: str) -> Iterator[Path]:
        yield from sorted(self.folder.glob(f"{key}-*{_SUFFIX}"))

    def _evict(self) -> None:
        """Remove the longest unused until the rest fits the cap, what is being written included, and those
        that were used long ago."""
        entries = sorted(
            ((status.st_mtime, status.st_size, path) for path in self._files("*") if (status := _stat(path))),
            reverse=True,
        )
        total = sum(status.st_size for path in self._temporaries() if (status := _stat(path)))
        oldest = time.time() - _UNUSED_S
        for modified, size, path in entries:
            total += size
            if total > self.max_bytes or modified < oldest:
                remove_quietly(path)

    def _temporaries(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_TEMPORARY}"))

    def _remove_abandoned(self) -> None:
        """Remove what processes that are gone were writing."""
        for path in self._temporaries():
            if not _is_held(path):
                remove_quietly(path)

    def _is_private(self) -> bool:
        """Whether the folder is this user's own; what others might do in it is taken from them."""
        try:
            status = self.folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or not _is_own(status):
                return False
            if status.st_mode & 0o077 and os.name == "posix":
                self.folder.chmod(0o700)
        except OSError:
            return False
        return True

    def _secret(self, *, make: bool = False) -> bytes:
        """This user's secret; empty if there is none that nobody else could know. Raises OSError where it
        is to be made and cannot."""
        path = self.folder / _SECRET
        secret = _read_secret(path)
        if secret or not make:
            return secret
        remove_quietly(path)
        temporary = self.folder / f"{os.urandom(8).hex()}{_TEMPORARY}"
        with _Held(temporary) as descriptor:
            os.write(descriptor, os.urandom(_SECRET_BYTES))
            os.fsync(descriptor)
        temporary.replace(path)
        return _read_secret(path)


def kv_folder(cache_folder: Path) -> Path:
    """Where the states are in the folder for what can be computed again."""
    return cache_folder / "kv"


def state_key(model: Path, *settings: str) -> str:
    """Names what a state fits: this very model file, and settings that change its numbers or layout.

    Downloaded files are named by their own digest in the hub's cache; size and time cover the rest. Of a
    model that was split, every part counts. Raises OSError if a file is gone.
    """
    parts: list[str] = []
    for path in part_paths(model):
        real = real_path(path)
        status = real.stat()
        parts += (str(real), str(status.st_size), str(status.st_mtime_ns))
    text = "\0".join((*parts, *settings))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def state_length(path: Path) -> int:
    """How many ids the state file ``path`` holds; 0 if it is not one."""
    return len(_read_ids(path))


class _Held:
    """A new file that is being written, locked so that others see that somebody is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._descriptor

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)


def _is_held(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            if sys.platform != "win32":
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            return time.time() - os.fstat(file.fileno()).st_mtime < _ABANDONED_S
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return True  # it was finished meanwhile
    except OSError:
        return False


def _is_own(status: os.stat_result) -> bool:
    return os.name != "posix" or status.st_uid == os.geteuid()


def _read_secret(path: Path) -> bytes:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or not _is_own(status):
            return b""
        if os.name == "posix" and status.st_mode & 0o077:
            return b""
        with open_regular(path) as file:
            secret = file.read(_SECRET_BYTES + 1)
    except OSError:
        return b""
    return secret if len(secret) == _SECRET_BYTES else b""


def _is_start(earlier: Sequence[int], ids: Sequence[int], head: int) -> bool:
    return len(earlier) > head and shared_prefix(earlier, ids) == len(earlier)


def _read_ids(path: Path) -> Sequence[int]:
    """The ids a state file begins with; none if it is not one."""
    try:
        with open_regular(path) as file:
            magic, _version, count = HEAD.unpack(file.read(HEAD.size))
            content = file.read(4 * count) if magic == MAGIC and count < 1 << 24 else b""
    except (OSError, struct.error):
        return ()
    return struct.unpack(f"<{len(content) // 4}i", content[: len(content) // 4 * 4])


def _digest(path: Path, secret: bytes) -> str | None:
    digest = hashlib.blake2b(digest_size=16, key=secret)
    try:
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return


def remove_quietly(path: Path) -> None:
    """Remove a file; one that is not there, or will not go, is left."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return

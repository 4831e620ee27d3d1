"""KV caches on disk, so that a conversation goes on without computing its past again.

A file is llama.cpp's own sequence state, named by what it fits (model file and settings) and by the
digest of its content: written under another name and renamed, checked before use, and thrown away
without a word when it does not fit. Private like the history: only its owner can read it.
"""

import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tanuki_cli.engines.base import shared_prefix

DEFAULT_MAX_BYTES: Final = 2 << 30
_SUFFIX: Final = ".kv"
_TEMPORARY: Final = ".part"
_HEADER: Final = struct.Struct("<4sII")
_MAGIC: Final = b"qsgg"
_SPARE_DISK_BYTES: Final = 512 << 20
"""Left free on the disk whatever the cap allows."""


@dataclass(frozen=True, slots=True)
class KvStore:
    """A folder of states, the least recently used ones removed above ``max_bytes`` in all.

    Several processes may share it. No method raises for a broken file or a full disk: a state that
    cannot be written or read is only slower.
    """

    folder: Path
    max_bytes: int = DEFAULT_MAX_BYTES

    def find(
        self, key: str, prompt_ids: Sequence[int], *, more_than: int, max_ids: int = 1 << 20
    ) -> Path | None:
        """The state for ``key`` that shares most with ``prompt_ids``, and more than that many ids.

        Only states of at most ``max_ids`` ids count. What is returned was checked.
        """
        found = []
        for path in self._files(key):
            ids = _read_ids(path)
            shared = shared_prefix(ids, prompt_ids)
            if shared > more_than and len(ids) <= max_ids:
                found.append((shared, path))
        for _shared, path in sorted(found, reverse=True):
            if path.stem.rpartition("-")[2] == _digest(path):
                _touch(path)
                return path
            remove_quietly(path)
        return None

    def save(
        self, key: str, ids: Sequence[int], write: Callable[[Path], int], *, nbytes: int, head: int = 0
    ) -> bool:
        """Keep the state of ``ids``, at most ``nbytes`` long, that ``write`` puts into the file it is
        given, returning the bytes written, 0 for a failure.

        Earlier states of the same text are replaced, but not one of the first ``head`` ids, which many
        conversations share. Returns whether it was kept.
        """
        temporary = self.folder / f"{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if nbytes > min(self.max_bytes, shutil.disk_usage(self.folder).free - _SPARE_DISK_BYTES):
                return False
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            # llama.cpp stops the process on a state that is cut short: none may get in.
            written = write(temporary)
            if not written or temporary.stat().st_size != written:
                return False
            digest = _digest(temporary)
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

    def _files(self, key: str) -> Iterator[Path]:
        yield from sorted(self.folder.glob(f"{key}-*{_SUFFIX}"))

    def _evict(self) -> None:
        """Remove the longest unused until the rest fits the cap."""
        entries = sorted(
            ((status.st_mtime, status.st_size, path) for path in self._files("*") if (status := _stat(path))),
            reverse=True,
        )
        total = 0
        for _modified, size, path in entries:
            total += size
            if total > self.max_bytes:
                remove_quietly(path)


def state_key(model: Path, *settings: str) -> str:
    """Names what a state fits: this very model file, and settings that change its numbers or layout.

    Downloaded files are named by their own digest in the hub's cache; size and time cover the rest.
    Raises OSError if the file is gone.
    """
    real = model.resolve()
    status = real.stat()
    parts = (str(real), str(status.st_size), str(status.st_mtime_ns), *settings)
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _is_start(earlier: Sequence[int], ids: Sequence[int], head: int) -> bool:
    return len(earlier) > head and shared_prefix(earlier, ids) == len(earlier)


def _read_ids(path: Path) -> Sequence[int]:
    """The ids a state file begins with; none if it is not one."""
    try:
        with path.open("rb") as file:
            magic, _version, count = _HEADER.unpack(file.read(_HEADER.size))
            content = file.read(4 * count) if magic == _MAGIC and count < 1 << 24 else b""
    except (OSError, struct.error):
        return ()
    return struct.unpack(f"<{len(content) // 4}i", content[: len(content) // 4 * 4])


def _digest(path: Path) -> str | None:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
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

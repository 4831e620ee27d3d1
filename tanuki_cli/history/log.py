"""The write-ahead log beside the history file, as SQLite lays it out.

SQLite reads its frames up to the first that does not fit those before it. What comes after is overwritten by
the next save, although it may be whole. Format: https://www.sqlite.org/walformat.html
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

_MAGIC: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""The byte order of the checksums."""
_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_SALTS: Final = slice(8, 16)


class Frame(Struct, frozen=True):
    """A page as a transaction left it; ``counts`` is whether SQLite reads it, and not only we do."""

    number: int
    page: bytes
    counts: bool


def log_path(path: Path) -> Path:
    """The log beside the history ``path``."""
    return path.with_name(f"{path.name}-wal")


def is_empty(path: Path) -> bool:
    """Whether the log beside ``path`` has nothing in it, or is not there."""
    try:
        return log_path(path).stat().st_size <= _HEADER
    except OSError:
        return True


def holds_more(path: Path, *, read: int) -> bool:
    """Whether the log has frames after the ``read`` ones that SQLite has read of it.

    A save by another process may be under way, unless the caller holds the lock for writing. Only the log
    is opened: to close the history file, or its -shm, would let go of all locks that SQLite has on them for
    this process, and another one could cut them short under it.
    """
    try:
        with log_path(path).open("rb", buffering=0) as log:
            header = log.read(_HEADER)
            if len(header) < _HEADER:
                return False
            size = struct.unpack_from(">I", header, 8)[0]
            if not _is_sound(header) or not 512 <= size <= 65536:
                return bool(log.read(1))
            position = _HEADER + read * (_FRAME_HEADER + size)
            while True:
                log.seek(position)
                frame = log.read(_FRAME_HEADER)
                if len(frame) < 16:  # what is shorter than a frame was cut off
                    return bool(frame)
                if frame[_SALTS] == header[16:24]:  # others are left over from before a checkpoint
                    return True
                position += _FRAME_HEADER + size
    except OSError:  # without a log, SQLite has left nothing out
        return False


def frames(log: bytes, size: int) -> Iterator[Frame]:
    """The frames of a log with pages of ``size`` bytes, oldest first, whatever became of the bytes between.

    Those that were left over from before a checkpoint are not among them.
    """
    starts = range(_HEADER, len(log) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size)
    of_frames = [log[start + 8 : start + 16] for start in starts]
    salts = log[16:24]
    if salts not in of_frames:  # the header is damaged, and the first frame may be
        twice = (one for one, following in pairwise(of_frames) if one == following)
        salts = next(twice, b"".join(of_frames[:1]))
    fitting = [start for start, found in zip(starts, of_frames, strict=True) if found == salts]
    last_read = _last_read(log, starts, size)
    for start in starts[: starts.index(fitting[-1]) + 1 if fitting else 0]:
        number = int.from_bytes(log[start : start + 4], "big")
        yield Frame(number, log[start + _FRAME_HEADER : start + _FRAME_HEADER + size], start <= last_read)


def _last_read(log: bytes, starts: Iterable[int], size: int) -> int:
    """Where the last frame begins that SQLite reads: a commit, up to which every frame follows the other."""
    header = log[:_HEADER]
    last = -1
    if not _is_sound(header):
        return last
    order, before = _MAGIC[int.from_bytes(header[:4], "big")], header[24:32]
    for start in starts:
        head, page = (
            log[start : start + _FRAME_HEADER],
            log[start + _FRAME_HEADER : start + _FRAME_HEADER + size],
        )
        before = _checksum(order, head[:8] + page, before)
        if head[_SALTS] != header[16:24] or before != head[16:24]:
            break
        if any(head[4:8]):  # the pages of the file after this commit
            last = start
    return last


def _is_sound(header: bytes) -> bool:
    order = _MAGIC.get(int.from_bytes(header[:4], "big"))
    return order is not None and _checksum(order, header[:24], bytes(8)) == header[24:32]


def _checksum(order: str, data: bytes, before: bytes) -> bytes:
    """SQLite's, over 32-bit words in ``order``; stored with the highest byte first."""
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words) - 1, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)

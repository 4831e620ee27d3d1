"""Receiving one file: resumed where it ended, hashed as it comes, tried again when the line breaks."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from tanuki_cli.errors import DownloadError
from tanuki_cli.hub.client import ByteStream, HubClient
from tanuki_cli.hub.faults import TransientFault, UnreachableFault, cut_off
from tanuki_cli.hub.files import HubFile, disk_fault
from tanuki_cli.hub.progress import Meter
from tanuki_cli.hub.ranges import PROBE, Ahead, Speed, worthwhile_connections
from tanuki_cli.i18n import _

_BLOCK: Final = 1 << 20
_LONGEST_WAIT: Final = 60.0
ResultT = TypeVar("ResultT")


class Patience(Struct, kw_only=True):
    """How long transient faults are put up with: ``waits`` are the seconds before each new try.

    Whatever succeeds starts the count anew. ``notify`` is told the fault before each wait.
    """

    waits: tuple[float, ...]
    notify: Callable[[TransientFault], None]
    _failures: int = 0
    _reached: bool = False

    def succeeded(self) -> None:
        """The hub answered."""
        self._failures = 0
        self._reached = True

    def endure(self, fault: TransientFault) -> None:
        """Wait, or raise ``fault`` if it lasts; a hub that was never reached gets no second try."""
        never_reached = isinstance(fault, UnreachableFault) and not self._reached
        too_long = (fault.retry_after or 0) > _LONGEST_WAIT
        if never_reached or too_long or self._failures >= len(self.waits):
            raise fault
        self.notify(fault)
        time.sleep(max(self.waits[self._failures], fault.retry_after or 0))
        self._failures += 1

    def persist(self, action: Callable[[], ResultT]) -> ResultT:
        """The result of ``action``, tried again while its faults are transient."""
        while True:
            try:
                result = action()
            except TransientFault as fault:
                self.endure(fault)
            else:
                self.succeeded()
                return result


def new_hash(file: HubFile) -> "hashlib._Hash":
    """An empty hash whose value, after all bytes, is the file's digest on the hub."""
    if file.lfs:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def has_digest(path: Path, file: HubFile, meter: Meter) -> bool:
    """Read ``path`` and compare; ``meter`` counts what is read."""
    digest = new_hash(file)
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
            meter.count(len(block))
    return digest.hexdigest() == file.digest


class Partial:
    """The unfinished content of ``file`` at ``path``: opened where it ended, hashed up to there."""

    def __init__(self, path: Path, file: HubFile, meter: Meter) -> None:
        self._file = file
        self._meter = meter
        self._stream = path.open("ab", buffering=0)
        self.size = 0
        self._hash = new_hash(file)
        present = path.stat().st_size
        if present > file.size:
            self.restart()
            present = 0
        with path.open("rb") as source:
            while self.size < present and (block := source.read(min(_BLOCK, present - self.size))):
                self._advance(block, received=False)

    def write(self, block: bytes) -> None:
        """Append ``block``. Raises OSError."""
        view = memoryview(block)
        while view:
            written = self._stream.write(view)
            self._advance(view[:written], received=True)
            view = view[written:]

    def restart(self) -> None:
        """Forget what was received."""
        self._stream.truncate(0)
        self._meter.count(-self.size)
        self.size = 0
        self._hash = new_hash(self._file)

    def _advance(self, block: bytes | memoryview, *, received: bool) -> None:
        self._hash.update(block)
        self.size += len(block)
        self._meter.count(len(block), received=received)

    @property
    def is_right(self) -> bool:
        """Size and digest are those on the hub."""
        return self.size == self._file.size and self._hash.hexdigest() == self._file.digest

    def flush(self) -> None:
        """Bring everything to the disk, so that a power cut cannot empty a file that was checked."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._stream.close()


def receive(client: HubClient, file: HubFile, path: Path, *, patience: Patience, meter: Meter) -> None:
    """Complete ``path`` with the content of ``file``. ``meter`` counts every change of its size.

    A resumed file with a wrong digest is fetched once more from the start. Raises DownloadError;
    whatever arrived stays at ``path``, unless its digest is wrong.
    """
    try:
        resumed = path.exists() and path.stat().st_size > 0
        if _receive(client, file, path, patience, meter):
            return
        path.unlink()
        meter.count(-file.size)
        if resumed and _receive(client, file, path, patience, meter):
            return
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise disk_fault(exc, path) from exc
    raise DownloadError(
        _("{path} arrived damaged: its checksum is not the one on the hub.").format(path=file.path),
        hint=_(
            "The damaged file was removed. Pull again; if it happens again, the mirror or proxy is at fault."
        ),
    )


def _receive(client: HubClient, file: HubFile, path: Path, patience: Patience, meter: Meter) -> bool:
    partial = Partial(path, file, meter)
    try:
        while partial.size < file.size:
            before = partial.size
            try:
                _append(client, file, partial)
            except TransientFault as fault:
                if partial.size > before:
                    patience.succeeded()
                patience.endure(fault)
        patience.succeeded()
        partial.flush()
        return partial.is_right
    finally:
        partial.close()


def _append(client: HubClient, file: HubFile, partial: Partial) -> None:
    with ExitStack() as stack:
        ahead = None
        if file.size - partial.size > 4 * PROBE:
            ahead = _begin(client, file, partial, stack)
        if ahead is not None:
            for block in ahead.blocks():
                partial.write(block)
        elif partial.size < file.size:
            with client.open(file, offset=partial.size) as answer:
                _take(answer, file, partial)
    if partial.size < file.size:
        raise cut_off(partial.size, file.size)


def _begin(client: HubClient, file: HubFile, partial: Partial, stack: ExitStack) -> Ahead | None:
    """Append a small range; what fetches the rest, if one connection is too slow for that.

    The others begin as soon as that is known. Where the hub gives no ranges everything is appended.
    """
    end = partial.size + PROBE
    speed = Speed()
    ahead = None
    with client.open(file, offset=partial.size, end=end) as answer:
        if not answer.is_range:
            _take(answer, file, partial)
            return None
        for block in answer.chunks:
            partial.write(block[: end - partial.size])
            speed.count(len(block))
            if ahead is None and speed.is_known and (ahead := _others(client, file, end, speed, stack)):
                ahead.connect(ahead.connections - 1)
    if partial.size < end:
        raise cut_off(partial.size, file.size)
    if ahead is not None:
        ahead.connect(1)  # instead of this one
    elif ahead := _others(client, file, end, speed, stack):
        ahead.connect(ahead.connections)
    return ahead


def _others(client: HubClient, file: HubFile, start: int, speed: Speed, stack: ExitStack) -> Ahead | None:
    """For the bytes from ``start`` on, where more connections than one of ``speed`` pay."""
    connections = worthwhile_connections(speed.bytes_per_s)
    if connections == 1:
        return None
    return stack.enter_context(closing(Ahead(client, file, start, connections=connections)))


def _take(answer: ByteStream, file: HubFile, partial: Partial) -> None:
    if answer.start != partial.size:
        partial.restart()
    for block in answer.chunks:
        partial.write(block[: file.size - partial.size])

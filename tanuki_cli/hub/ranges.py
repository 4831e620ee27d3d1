"""Several ranges of one file at once, handed over in the order of the file.

Content stores often limit what one connection gets, so a large file comes over several. What has arrived
ahead of its turn waits in memory: the unfinished file on the disk is always the beginning of the whole
one, so that it can be resumed by any means after a kill at any moment.

The threads of this module touch sockets and queues, nothing else.
"""

import heapq
import math
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Final

from tanuki_cli.errors import DownloadError
from tanuki_cli.hub.client import HubClient
from tanuki_cli.hub.faults import TransientFault, cut_off
from tanuki_cli.hub.files import HubFile

CONNECTIONS: Final = 8
"""At most: content stores do not like more."""
PROBE: Final = 4 << 20
"""Bytes that come over one connection first."""
_TELLING_S: Final = 0.2
_FAST: Final = 100_000_000
"""Bytes per second that no more connections are wanted for: Python takes in little more."""
PIECE: Final = 16 << 20
"""Bytes asked for at a time: smaller ones would meet the hub's limit of requests sooner."""
_SMALLEST_PIECE: Final = 2 << 20
"""A request takes as long as some 100 KB: smaller pieces cost more than an even end gains."""


class Speed:
    """That of one connection, without the time until its first bytes came."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._seconds = 0.0
        self._bytes = 0

    def count(self, size: int) -> None:
        """``size`` bytes have come."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        else:
            self._bytes += size
        self._seconds = now - self._began

    @property
    def is_known(self) -> bool:
        """Whether it was watched for long enough to rely on it."""
        return self._seconds >= _TELLING_S

    @property
    def bytes_per_s(self) -> float:
        """So far; without end if everything came at once."""
        return self._bytes / self._seconds if self._seconds else math.inf


class Piece:
    """Bytes ``start`` to ``end`` of the file, on their way."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.received = 0
        self.blocks: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        """What came, in order; None at the end."""

    def __lt__(self, other: "Piece") -> bool:
        return self.start < other.start


def worthwhile_connections(speed: float) -> int:
    """How many pay where one gives ``speed`` bytes per second."""
    return max(1, min(CONNECTIONS, math.ceil(_FAST / max(speed, 1.0))))


def _pieces(start: int, end: int, connections: int) -> Iterator[Piece]:
    """All from ``start`` to ``end``; smaller towards the end, so that all connections end together."""
    while start < end:
        size = min(max((end - start) // (2 * connections), _SMALLEST_PIECE), PIECE)
        yield Piece(start, min(start + size, end))
        start += size


class Ahead:
    """Fetches the pieces of ``file`` from ``start`` on, over at most ``connections``, until :meth:`close`.

    A connection that is refused, or breaks before anything came, is given up, and its piece is left to
    another one; the fault of the last one is raised by :meth:`blocks`.
    """

    def __init__(self, client: HubClient, file: HubFile, start: int, *, connections: int) -> None:
        self.connections = connections
        self._client = client
        self._file = file
        self._pieces = list(_pieces(start, file.size, connections))
        self._waiting = list(self._pieces)  # sorted, which is a heap
        # Half as many more as are on their way may wait for their turn: one slow connection does not stop
        # all others at once.
        self._window = threading.Semaphore(connections + connections // 2)
        self._lock = threading.Lock()
        self._closed = False
        self._alive = 0

    def connect(self, count: int) -> None:
        """Use ``count`` connections more; at first there is none."""
        with self._lock:
            self._alive += count
        for _number in range(count):
            # The end of the program waits for none of these: a read may take long.
            threading.Thread(target=self._fetch_pieces, daemon=True).start()

    def blocks(self) -> Iterator[bytes]:
        """The bytes from the start on. Raises DownloadError."""
        for piece in self._pieces:
            while (block := piece.blocks.get()) is not None:
                if isinstance(block, BaseException):
                    raise block
                yield block
            self._window.release()

    def close(self) -> None:
        """Let the connections end at their next block."""
        self._closed = True
        self._window.release(max(len(self._pieces), 1))

    def _fetch_pieces(self) -> None:
        while True:
            self._window.acquire()
            with self._lock:
                if self._closed or not self._waiting:
                    self._alive -= 1
                    self._window.release()
                    return
                piece = heapq.heappop(self._waiting)
            try:
                self._fetch(piece)
            except DownloadError as fault:
                self._give_up(piece, fault)
                return
            except BaseException as exc:  # whatever it is: who waits for the piece must learn of it
                piece.blocks.put(exc)
                raise

    def _give_up(self, piece: Piece, fault: DownloadError) -> None:
        """Leave ``piece`` to another connection; where there is none, tell."""
        with self._lock:
            self._alive -= 1
            if self._alive and isinstance(fault, TransientFault):
                heapq.heappush(self._waiting, piece)
                self._window.release()
                return
        piece.blocks.put(fault)

    def _fetch(self, piece: Piece) -> None:
        """Receive the rest of ``piece``, again while something comes. Raises DownloadError."""
        while piece.start + piece.received < piece.end and not self._closed:
            before = piece.received
            try:
                self._receive(piece)
            except TransientFault:
                if piece.received == before:
                    raise
        piece.blocks.put(None)

    def _receive(self, piece: Piece) -> None:
        begin = piece.start + piece.received
        with self._client.open(self._file, offset=begin, end=piece.end) as answer:
            if not answer.is_range:
                raise cut_off(begin, self._file.size)
            for block in answer.chunks:
                if self._closed:
                    break
                part = block[: piece.end - piece.start - piece.received]
                piece.received += len(part)
                piece.blocks.put(part)
        if piece.start + piece.received < piece.end and not self._closed:
            raise cut_off(piece.start + piece.received, self._file.size)

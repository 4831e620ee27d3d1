"""How far a pull has come, as values; how that looks is the terminal's business."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Phase = Literal["checking", "downloading", "waiting"]


class Progress(Struct, frozen=True, kw_only=True):
    """A moment of a pull.

    ``checking`` reads what is on the disk already; ``waiting`` has a sentence in ``detail`` that says
    for what. Bytes and files count over the whole phase; what was there before counts as done, but
    not as ``bytes_received``, which is what a speed can be computed from.
    """

    phase: Phase
    file: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    bytes_received: int = 0
    detail: str = ""


OnProgress = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """For callers that show nothing."""


class Meter:
    """Adds up one phase and reports every change to ``on_progress``."""

    def __init__(self, on_progress: OnProgress, phase: Phase, *, files_total: int, bytes_total: int) -> None:
        self._on_progress = on_progress
        self._phase = phase
        self._files_total = files_total
        self._bytes_total = bytes_total
        self._files_done = 0
        self._bytes_done = 0
        self._bytes_received = 0
        self._file = ""

    @property
    def bytes_received(self) -> int:
        """What came over the network so far."""
        return self._bytes_received

    def begin(self, file: str) -> None:
        """``file`` is next."""
        self._file = file
        self._report(self._phase, "")

    def count(self, size: int, *, received: bool = False) -> None:
        """``size`` more bytes are done; negative if some have to be done again."""
        self._bytes_done += size
        if received:
            self._bytes_received += size
        self._report(self._phase, "")

    def finish_file(self) -> None:
        """The current file is done."""
        self._files_done += 1
        self._report(self._phase, "")

    def wait(self, detail: str) -> None:
        """Nothing moves for now; ``detail`` says why."""
        self._report("waiting", detail)

    def _report(self, phase: Phase, detail: str) -> None:
        self._on_progress(
            Progress(
                phase=phase,
                file=self._file,
                files_done=self._files_done,
                files_total=self._files_total,
                bytes_done=self._bytes_done,
                bytes_total=self._bytes_total,
                bytes_received=self._bytes_received,
                detail=detail,
            )
        )

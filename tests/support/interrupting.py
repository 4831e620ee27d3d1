"""A stream on which a Ctrl-C comes in the middle of what is written."""

import io
import signal


class Interrupting(io.RawIOBase):
    """Takes what is written, and gets a SIGINT when it is given ``at`` for the first time."""

    def __init__(self, at: bytes = b"") -> None:
        self.taken = b""
        self._at = at
        self._came = False

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]  # any buffer
        self.taken += piece
        if self._at in piece and not self._came:
            self._came = True
            signal.raise_signal(signal.SIGINT)
        return len(piece)

    def text(self) -> io.TextIOWrapper:
        """A text stream that writes to this one at once."""
        return io.TextIOWrapper(io.BufferedWriter(self), encoding="utf-8", write_through=True)

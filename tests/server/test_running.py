"""The server's signals, wherever they come."""

import io
import signal
from contextlib import closing

from starlette.types import Receive, Scope, Send

from tanuki_cli.server.running import Server, listen


async def _app(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


class _Interrupting(io.RawIOBase):
    """Takes what is written, and gets a SIGINT in the middle of the first piece."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]  # any buffer
        first = not self.taken
        self.taken += piece
        if first:
            signal.raise_signal(signal.SIGINT)
        return len(piece)


def test_a_signal_in_the_middle_of_a_line_lets_it_end() -> None:
    raw = _Interrupting()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", write_through=True)

    def say(line: str) -> None:
        stream.write(line)
        stream.flush()

    with closing(listen("127.0.0.1", 0)) as listener:
        server = Server(_app, on_ready=lambda: say("It listens.\n"), on_stop=lambda: say("It ends.\n"))
        server.run(sockets=[listener])
    assert raw.taken == b"It listens.\nIt ends.\n"
    assert not server.force_exit

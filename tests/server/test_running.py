"""The server's signals, wherever they come."""

from contextlib import closing

from starlette.types import Receive, Scope, Send

from tanuki_cli.server.running import Server, listen
from tests.support.interrupting import Interrupting


async def _app(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def test_a_signal_in_the_middle_of_a_line_lets_it_end() -> None:
    raw = Interrupting()
    stream = raw.text()

    def say(line: str) -> None:
        stream.write(line)
        stream.flush()

    with closing(listen("127.0.0.1", 0)) as listener:
        server = Server(_app, on_ready=lambda: say("It listens.\n"), on_stop=lambda: say("It ends.\n"))
        server.run(sockets=[listener])
    assert raw.taken == b"It listens.\nIt ends.\n"
    assert not server.force_exit

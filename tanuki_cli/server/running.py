"""The server as a process: its socket, its signals, and its end."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.server.access import MAX_HEAD, is_loopback
from tanuki_cli.server.connection import BoundedConnection

GRACE_S: Final = 30
"""How long running answers may go on after the first signal."""
MAX_CONNECTIONS: Final = 512
_IDLE_S: Final = 30
_BACKLOG: Final = 256


def listen(host: str, port: int) -> socket.socket:
    """A socket on ``host`` and ``port``; 0 is any free one. Raises InputError."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as exc:
        # The latter for what cannot be a name, such as a..b; nothing has that one either.
        fault = exc if isinstance(exc, OSError) else socket.gaierror()
        raise InputError(
            _("{host}:{port} cannot be listened on: {reason}").format(
                host=host, port=port, reason=os_reason(fault)
            ),
            hint=_another_place(fault, port),
        ) from exc
    return listener


def _another_place(exc: OSError, port: int) -> str:
    """The command that listens elsewhere: another host where that one is not this machine's."""
    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
        return "tanuki serve --host 127.0.0.1"
    # Below 1024 the next port would be refused, too.
    return f"tanuki serve --port {port + 1 if 1024 <= port < 65535 else 8264}"


def address_of(listener: socket.socket) -> str:
    """The address that clients use, for one who asks from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_private(listener: socket.socket) -> bool:
    """Whether only this machine's own programs reach ``listener``."""
    return is_loopback(listener.getsockname()[0])


class Server(uvicorn.Server):
    """uvicorn's server, with two signals: after the first, SIGINT or SIGTERM, running answers may finish
    for a while; the second ends at once. ``on_ready`` is called when it listens, ``on_stop`` at the first
    signal."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        debug: bool = False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                ws="none",
                loop="asyncio",
                lifespan="on",
                interface="asgi3",
                log_config=None,
                log_level="debug" if debug else "critical",  # paths and errors; never a body
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def stop(self) -> None:
        """Take no more requests, and end when the running ones have; at once if called again."""
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        self._on_stop()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals end the server, and nothing after it."""
        loop = asyncio.get_running_loop()

        def handle(_number: int, _frame: FrameType | None) -> None:
            # The handler itself may stand inside a write, where ``on_stop`` could not write.
            loop.call_soon_threadsafe(self.stop)

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

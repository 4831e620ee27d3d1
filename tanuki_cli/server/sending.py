"""What happens while a client waits: its leaving is noticed, and a stream keeps its connection open.

Starlette's own ways to notice do not fire in every version; ``receive()`` says so itself.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tanuki_cli.protocol.fields import Fields
from tanuki_cli.server.body import read_object
from tanuki_cli.server.connection import BODY_S
from tanuki_cli.server.faults import ApiError

MAX_BODY: Final = 4 << 20
PING_S: Final = 10.0
"""How often a stream says that it is still there while nothing else comes: proxies give up after 60."""
PING: Final = b": waiting\n\n"
END: Final = b"data: [DONE]\n\n"
ResultT = TypeVar("ResultT")


class ClientGone(Exception):
    """The client left: nobody reads what would be answered."""


def event(content: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def while_connected(receive: Receive, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What ``work`` gives. It is cancelled, and ClientGone raised, as soon as the client leaves."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def within(seconds: float, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What ``work`` gives; it is cancelled, and asyncio.TimeoutError raised, if that takes longer.

    ``asyncio.wait_for`` of Python 3.10 and 3.11 forgets that it is cancelled where ``work`` has just ended.
    """
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((working,), timeout=seconds)
        if not working.done():
            raise asyncio.TimeoutError
        return working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request) -> Fields:
    """The JSON object that is sent. Raises ApiError for one that is too large, too slow or none."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > MAX_BODY:
        raise _too_large()
    try:
        body = await within(BODY_S, _bounded(request.receive))
    except asyncio.TimeoutError as exc:
        message = f"The body of the request did not come within {BODY_S:.0f} seconds."
        raise ApiError(408, message, headers={"connection": "close"}) from exc
    # Parsing takes as long as the body is large: not in the event loop.
    return await asyncio.to_thread(read_object, body)


async def _bounded(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large() -> ApiError:
    message = f"The body of the request is larger than {MAX_BODY} bytes."
    return ApiError(413, message, headers={"connection": "close"})


class EventStream(Response):
    """A stream of events; ``events`` is closed when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], *, headers: Mapping[str, str]) -> None:
        # Proxies must neither keep events back nor keep them.
        own = {"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        super().__init__(None, headers=own, background=None)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the client stays for."""
        with suppress(ClientGone):
            await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for body in self._events:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def nobody_there() -> Response:
    """What is answered to a client that left."""
    return Response(status_code=499)

"""What a client still sends while it is answered already is taken from it, within bounds.

A connection that is closed with something unread is reset, and the client never sees why: most send their
whole request before they read.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tanuki_cli.server.sending import within

MOST_BYTES: Final = 64 << 20
MOST_S: Final = 10.0


class Drained:
    """Ends an answer of ``app`` only when its request has been taken whole, or is too much of one."""

    def __init__(self, app: ASGIApp, *, most_bytes: int = MOST_BYTES, most_s: float = MOST_S) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._most_s = most_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        whole = False

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            if whole or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            if await self._takes_rest(receiving):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            # Otherwise the answer has no end, and the connection is closed.

        await self._app(scope, receiving, sending)

    async def _takes_rest(self, receive: Receive) -> bool:
        """Take what is left; whether that was everything."""
        try:
            return await within(self._most_s, self._rest(receive))
        except asyncio.TimeoutError:
            return False

    async def _rest(self, receive: Receive) -> bool:
        size = 0
        while size <= self._most_bytes:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                return bool(message["type"] == "http.request")
        return False


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

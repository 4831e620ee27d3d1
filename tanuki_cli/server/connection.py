"""One connection of uvicorn's, with limits to how long it may keep the server waiting.

uvicorn bounds the size of a request's head, and nothing else: a client may send one byte a minute, or
never take what it is sent.
"""

import asyncio
from typing import Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 15.0
"""From the first byte to the end of a request's head, also for a client that says nothing at all."""
BODY_S: Final = 30.0
REST_S: Final = 15.0
"""How long the rest of a request may take that was answered already."""
TAKING_S: Final = 60.0
"""How long a reader may take nothing while there is something for it."""


class BoundedConnection(H11Protocol):
    """Closes a connection whose client does not go on."""

    _head_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _taking_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The head of the first request has to come in time."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """A head that is not complete has to become so in time."""
        super().data_received(data)
        self._watch_head()
        self._watch_rest()

    def pause_writing(self) -> None:
        """The client takes nothing for the moment."""
        super().pause_writing()
        if self._taking_timer is None:
            self._taking_timer = self.loop.call_later(TAKING_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes something again."""
        super().resume_writing()
        _stop(self._taking_timer)
        self._taking_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        _stop(self._head_timer)
        _stop(self._rest_timer)
        _stop(self._taking_timer)
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            _stop(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _watch_rest(self) -> None:
        """uvicorn takes the rest of what it refused itself, for as long as it comes."""
        answered = self.cycle is not None and self.cycle.response_complete
        if not answered or self.conn.their_state is not h11.SEND_BODY:
            _stop(self._rest_timer)
            self._rest_timer = None
        elif self._rest_timer is None and not self.transport.is_closing():
            self._rest_timer = self.loop.call_later(REST_S, self.transport.abort)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()

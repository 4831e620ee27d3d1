"""The answers to a request, between the engine's thread and the event loop.

Nothing waits for anything: a slow reader's pieces are joined until it takes them.
"""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from tanuki_cli.engines.answers import Chunk, Job
from tanuki_cli.server.faults import ApiError


class Answers:
    """The answers to the jobs of one request, as they come. For the event loop."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = tuple(jobs)
        self._pending: dict[int, Chunk] = {}
        self._left = len(self.jobs)
        self._error: ApiError | None = None
        self._news = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether everything was taken."""
        return self._left == 0 and not self._pending

    def put(self, index: int, chunk: Chunk) -> None:
        """The next chunk of the answer number ``index``. What an answer is begun with is no part of it."""
        if chunk.plan is not None:
            chunk = replace(chunk, text="", token_count=0, tokens=())
        held = self._pending.get(index)
        self._pending[index] = chunk if held is None else joined(held, chunk)
        self._left -= chunk.finish_reason is not None
        self._news.set()

    def fail(self, error: ApiError) -> None:
        """Nothing more comes, because of ``error``."""
        self._error = self._error or error
        self._news.set()

    async def take(self, *, timeout_s: float | None = None) -> dict[int, Chunk]:
        """What is new, by the number of the answer; nothing after ``timeout_s`` without news.

        Raises ApiError where an answer failed.
        """
        timer = None
        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._news.clear()
        news, self._pending = self._pending, {}
        if not news and self._error is not None:
            raise self._error
        if self._error is not None:
            self._news.set()
        return news


def joined(first: Chunk, second: Chunk) -> Chunk:
    """Two chunks that follow one another, as one."""
    return replace(
        second,
        plan=first.plan or second.plan,
        text=first.text + second.text,
        token_count=first.token_count + second.token_count,
        tokens=first.tokens + second.tokens,
    )

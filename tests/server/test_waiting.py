"""What waits in the event loop ends when it is cancelled, whatever comes at the same moment."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tanuki_cli.engines.answers import Chunk, Job
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.server.answers import Answers
from tanuki_cli.server.sending import within

Waiting = tuple[Coroutine[Any, Any, object], Callable[[], None]]
"""What waits, and what it waits for."""


def for_news() -> Waiting:
    answers = Answers([Job(options=SamplingOptions())])
    return answers.take(timeout_s=60), lambda: answers.put(0, Chunk(text="た"))


def for_an_event() -> Waiting:
    event = asyncio.Event()
    return within(60, event.wait()), event.set


@pytest.mark.parametrize("begin", [for_news, for_an_event])
@pytest.mark.parametrize("between", range(5))
def test_what_is_cancelled_as_its_news_come_is_cancelled(begin: Callable[[], Waiting], between: int) -> None:
    """``between`` is how often the loop turns from the news to the cancelling."""

    async def check() -> None:
        work, come = begin()
        waiting = asyncio.ensure_future(work)
        for _turn in range(5):
            await asyncio.sleep(0)
        come()
        for _turn in range(between):
            await asyncio.sleep(0)
        if waiting.cancel():  # not done before
            await asyncio.wait((waiting,))
            assert waiting.cancelled()

    asyncio.run(check())


def test_what_takes_too_long_ends() -> None:
    async def check() -> None:
        answers = Answers([Job(options=SamplingOptions())])
        assert await answers.take(timeout_s=0.01) == {}
        ended = []

        async def never() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, never())
        assert ended

    asyncio.run(check())

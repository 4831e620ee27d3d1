"""The bounds of what is taken after an answer: a script of messages is the point."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from tanuki_cli.server.draining import Drained

REST: Message = {"type": "http.request", "body": b"x" * 10, "more_body": True}
END: Message = {"type": "http.request", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


async def refusing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no", "more_body": False})


@pytest.mark.parametrize(
    ("coming", "ends"),
    [([END], True), ([REST] * 9 + [END], True), ([REST] * 100, False), ([GONE], False), ([], False)],
    ids=["nothing", "little", "much", "gone", "silence"],
)
def test_an_answer_ends_when_its_request_has(coming: list[Message], ends: bool) -> None:
    left = list(coming)
    sent: list[Message] = []

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"99")]}
    asyncio.run(Drained(refusing, most_bytes=100, most_s=0.05)(scope, receive, send))
    assert sent[1] == {"type": "http.response.body", "body": b"no", "more_body": True}
    assert [message["more_body"] for message in sent[2:]] == ([False] if ends else [])
    assert len(left) < 100 - 9

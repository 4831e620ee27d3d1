"""A judge for tests: answers every request of the chat endpoint with a score that follows from the prompt."""

import hashlib
import json
from collections.abc import Callable

from tests.support.chat_server import DONE, ChatServer, Script, chat, chat_usage

NO_SCORE = "採点できません。"


def verdict(prompt: str) -> str:
    """What the judge says of ``prompt``: a score from 1 to 10, now and then none, or in single brackets."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    if number % 13 == 0:
        return NO_SCORE
    score = number // 13 % 10 + 1
    return f"理由。[{score}]" if number % 7 == 0 else f"理由[1]。評価: [[{score}]]"


class Answers(list[Script]):
    """The scripts of a server that never run out; ``first`` come before."""

    def __init__(self, server: ChatServer, first: list[Script], answer: Callable[[str], str]) -> None:
        super().__init__(first)
        self._server = server
        self._answer = answer

    def pop(self, index: object = 0) -> Script:
        if self:
            return super().pop(0)
        messages = self._server.requests[-1].body["messages"]
        assert isinstance(messages, list)
        text = self._answer(messages[-1]["content"])
        return [chat(text), chat(finish="stop"), chat_usage(len(json.dumps(messages)), len(text), 0), DONE]


def judge_server(*first: Script, answer: Callable[[str], str] = verdict) -> ChatServer:
    """The server; it serves ``gpt-4-0613``."""
    server = ChatServer(models=("gpt-4-0613",))
    server.scripts = Answers(server, list(first), answer)
    return server

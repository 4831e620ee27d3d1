"""What the tests of the history share: conversations, child processes, a full disk."""

import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tanuki_cli.conversation import Conversation, Generation, Message, Node, Usage

# A child begins at once with what was imported here; nothing of a history is open when it is made.
FORK = multiprocessing.get_context("fork")
UNFINISHED = Generation(model="mame", finish_reason=None)
FINISHED = Generation(
    model="mame",
    finish_reason="stop",
    usage=Usage(prompt_tokens=12, completion_tokens=3, cached_tokens=7),
    seed=42,
    tokens_per_s=10.5,
)


def ask(conversation: Conversation, question: str, answer: str) -> Node:
    """One turn; returns the answer."""
    conversation.append(Message("user", question))
    return conversation.append(Message("assistant", answer), generation=FINISHED)


def talked(turns: int = 3, *, text: str = "") -> Conversation:
    conversation = Conversation()
    for turn in range(turns):
        ask(conversation, f"質問 {turn}", f"答え {turn} {text}")
    return conversation


@contextmanager
def full_disk(free_bytes: int, path: Path) -> Iterator[None]:
    """No file may grow more than ``free_bytes`` beyond the largest one of the history."""
    largest = max((file.stat().st_size for file in path.parent.glob(f"{path.name}*")), default=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

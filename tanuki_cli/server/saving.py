"""Chats of clients in the history, where the user wants that: ``tanuki serve --save``.

A client sends the whole conversation every time; what is a continuation of one that was saved here goes
on in it. SQLite has a thread of its own: nothing waits for the disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, Generation, Message
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore
from tanuki_cli.server.served import ServedModel

_REMEMBERED: Final = 256
"""So many conversations can be gone on with."""


class Saver:
    """Writes to the history at ``path``; ``warn`` is told once in a row if that fails."""

    def __init__(self, path: Path, model: ServedModel, *, warn: Callable[[str], None]) -> None:
        self._path = path
        self._model = model
        self._warn = warn
        self._failed = False
        self._store: HistoryStore | None = None
        self._known: OrderedDict[tuple[Message, ...], tuple[Conversation, str | None]] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")

    def save(self, messages: Sequence[Message], answers: Sequence[Chunk]) -> None:
        """Keep a question, the last of ``messages``, and its answers, which become siblings."""
        self._thread.submit(self._save, tuple(messages), tuple(answers))

    def close(self) -> None:
        """Wait until everything is written."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)

    def _save(self, messages: tuple[Message, ...], answers: tuple[Chunk, ...]) -> None:
        conversation = self._conversation(messages[:-1])
        question = conversation.append(messages[-1])
        for answer in answers:
            conversation.branch(question.id)
            generation = Generation(
                model=self._model.name,
                finish_reason=answer.finish_reason or "interrupted",
                usage=answer.usage,
                seed=answer.seed,
            )
            node = conversation.append(Message("assistant", answer.text), generation=generation)
            self._remember((*messages, node.message), conversation, node.id)
        try:
            if self._store is None:
                self._store = HistoryStore(self._path, notify=self._warn)
            self._store.save(conversation)
            self._failed = False
        except HistoryError as error:
            if not self._failed:
                self._warn(error.message)
            self._failed = True

    def _conversation(self, before: tuple[Message, ...]) -> Conversation:
        """The conversation that ``before`` is the path of: one of before, or a new one."""
        if before in self._known:
            self._known.move_to_end(before)
            conversation, tip = self._known[before]
            conversation.branch(tip)
            return conversation
        system = before[0].content if before and before[0].role == "system" else None
        conversation = Conversation(system=system)
        conversation.settings = replace(
            conversation.settings, model=self._model.name, sampling=self._model.defaults
        )
        for message in before[system is not None :]:
            made = Generation(model="", finish_reason="stop") if message.role == "assistant" else None
            conversation.append(message, generation=made)
        return conversation

    def _remember(self, path: tuple[Message, ...], conversation: Conversation, tip: str) -> None:
        self._known[path] = (conversation, tip)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()

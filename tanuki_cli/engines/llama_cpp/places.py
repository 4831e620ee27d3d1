"""Who has which sequence of the shared cache, and who must wait for one or give his up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tanuki_cli.engines.base import Request
from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.shared_cache import SharedCache, shared_length

_ROOM_TO_GROW: Final = 32
"""Cells that must be free for every answer before another one may begin."""
_WORTH_WAITING: Final = 16
"""So many ids more must become shared before a prompt waits for another to compute them."""


class Answering:
    """One request on its way: ``text`` is its prompt and answer so far.

    The last ``awaited`` ids of it were forced by a mask and not given away yet. ``sequence`` is -1 while it
    waits; ``cached_tokens`` is None before it began.
    """

    __slots__ = ("awaited", "cached_tokens", "chooser", "request", "sequence", "text")

    def __init__(self, request: Request, chooser: Chooser, prompt_ids: list[int]) -> None:
        self.request = request
        self.chooser = chooser
        self.text = prompt_ids
        self.awaited = 0
        self.sequence = -1
        self.cached_tokens: int | None = None


class Places:
    """The sequences of ``cache``. ``running`` have one; all are in the order in which they came.

    A sequence that is free keeps its ids until it, or its cells, are needed.
    """

    def __init__(self, cache: SharedCache, count: int) -> None:
        self.running: list[Answering] = []
        self._cache = cache
        self._waiting: list[Answering] = []
        self._free = list(range(count))  # the longest unused first

    def add(self, answering: Answering) -> None:
        """It waits for a sequence."""
        self._waiting.append(answering)

    def remove(self, answering: Answering) -> None:
        """It is over; its sequence is free."""
        if answering.sequence < 0:
            self._waiting.remove(answering)
            return
        self.running.remove(answering)
        self._free.append(answering.sequence)

    def fill(self) -> None:
        """Let those begin that may, in their order."""
        while self._waiting and self._free and self._begins(self._waiting[0]):
            self.running.append(self._waiting.pop(0))

    def make_room(self, count: int) -> Answering | None:
        """See that ``count`` cells are free. Where only the newest could give them, it waits again, as the
        first, and is returned: less is wanted then.

        The oldest never has to: the cache is as long as any one of them may become.
        """
        while self._cache.free < count:
            if self._evict():
                continue
            newest = self.running.pop()
            self._waiting.insert(0, newest)
            self._cache.trim(newest.sequence, 0)
            self._free.append(newest.sequence)
            newest.sequence = -1
            return newest
        return None

    @contextmanager
    def borrowed(self, ids: list[int]) -> Iterator[int]:
        """A sequence that begins with as much of ``ids`` as is computed, for as long as the block takes."""
        sequence = self._take(*self._longest(ids))
        try:
            yield sequence
        finally:
            self._free.append(sequence)

    def _begins(self, answering: Answering) -> bool:
        """Whether it has a sequence now."""
        ids = answering.text[:-1]  # the last one is always computed: its logits are not kept
        source, length = self._longest(ids)
        soon = max((shared_length(ids, other.text) for other in self.running), default=0)
        if soon > length + _WORTH_WAITING:
            return False
        if not self._has_room(len(answering.text) - length, keep=source):
            return False
        answering.sequence = self._take(source, length)
        if answering.cached_tokens is None:
            answering.cached_tokens = length
        return True

    def _longest(self, ids: list[int]) -> tuple[int, int]:
        """The sequence that shares most with ``ids``, and how many; rather one that is free."""
        length, _is_free, source = max(
            (shared_length(ids, self._cache.ids(sequence)), sequence in self._free, sequence)
            for sequence in range(self._cache.count)
        )
        return source, length

    def _take(self, source: int, length: int) -> int:
        """A free sequence that begins with the first ``length`` ids of ``source``."""
        target = source
        if source not in self._free or (length < self._cache.length(source) and len(self._free) > 1):
            others = [sequence for sequence in self._free if sequence != source]
            target = next((other for other in others if not self._cache.length(other)), others[0])
            self._cache.copy(source, target, length)
        self._cache.trim(target, length)
        self._free.remove(target)
        return target

    def _has_room(self, count: int, *, keep: int) -> bool:
        """Whether ``count`` ids more leave room for all to grow; for one alone there always is."""
        unread = sum(len(other.text) - self._cache.length(other.sequence) for other in self.running)
        wanted = count + unread + _ROOM_TO_GROW * (len(self.running) + 1)
        while self._cache.free < wanted and self._evict(keep):
            pass
        return self._cache.free >= wanted or not self.running

    def _evict(self, keep: int = -1) -> bool:
        """Empty the sequence that is longest unused; whether there was one."""
        for sequence in self._free:
            if sequence != keep and self._cache.length(sequence):
                self._cache.trim(sequence, 0)
                return True
        return False

"""Who has which sequence, and what of it is there already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.cutting import reusable
from tanuki_cli.engines.llama_cpp.parts import Answering
from tanuki_cli.engines.llama_cpp.sequences import Sequences
from tanuki_cli.engines.token_model import shared_prefix

_WORTH_COPYING: Final = 8
"""So many ids must be shared before they are copied."""
_WORTH_WAITING: Final = 16
"""So many ids more must become shared before a prompt waits for another one to compute them."""


class Crowd(Struct, frozen=True, kw_only=True):
    """More than ``few`` requests at once only as long as these have fewer than ``most_ids`` ids together."""

    few: int
    most_ids: int


class Places:
    """Gives ``sequences`` to requests. ``running`` have one; all are in the order in which they came.

    A sequence that is free keeps its ids until it is needed. ``n_batch`` is how many ids of a prompt are
    computed together at most. ``crowd`` limits how many begin where many long ones are a loss.
    """

    def __init__(self, sequences: Sequences, *, n_batch: int, crowd: Crowd | None = None) -> None:
        self.running: list[Answering] = []
        self._sequences = sequences
        self._n_batch = n_batch
        self._crowd = crowd
        self._waiting: list[Answering] = []
        self._free = list(range(sequences.count))  # the longest unused first

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
        """Let those begin that can, in their order."""
        while self._waiting and self._free and self._pays() and self._begins(self._waiting[0]):
            self.running.append(self._waiting.pop(0))

    def _pays(self) -> bool:
        if self._crowd is None or len(self.running) < self._crowd.few:
            return True
        return sum(len(answering.text) for answering in self.running) < self._crowd.most_ids

    @contextmanager
    def borrowed(self, ids: list[int]) -> Iterator[int]:
        """A sequence that begins with as much of ``ids`` as is there, for as long as the block takes."""
        sequence = self._take(*self._longest(ids))
        try:
            yield sequence
        finally:
            self._free.append(sequence)

    def _begins(self, answering: Answering) -> bool:
        """Whether it has a sequence now."""
        text = answering.text
        source, length = self._longest(text)
        soon = max((shared_prefix(text, other.text) for other in self.running), default=0)
        length = reusable(length, len(text), n_batch=self._n_batch)
        if reusable(soon, len(text), n_batch=self._n_batch) > length + _WORTH_WAITING:
            return False
        answering.sequence = self._take(source, length)
        answering.cached_tokens = self._sequences.length(answering.sequence)
        return True

    def _longest(self, ids: list[int]) -> tuple[int, int]:
        """The sequence that shares most with ``ids``, and how many; rather one that is free."""
        length, _is_free, source = max(
            (shared_prefix(ids, self._sequences.ids(sequence)), sequence in self._free, sequence)
            for sequence in range(self._sequences.count)
        )
        return source, length

    def _take(self, source: int, length: int) -> int:
        """A free sequence that begins with the first ``length`` ids of ``source``, or with none if copying
        these is no gain."""
        target = source
        if source not in self._free or (length < self._sequences.length(source) and len(self._free) > 1):
            others = [sequence for sequence in self._free if sequence != source]
            target = next((other for other in others if not self._sequences.length(other)), others[0])
            if length >= _WORTH_COPYING:
                self._sequences.copy(source, target, length)
            else:
                length = 0
        self._sequences.trim(target, length)
        self._free.remove(target)
        return target

"""Who has which sequence, what of it is there already, and how a prompt is cut into computations.

llama.cpp rounds by how many ids are computed together: kernels for one id differ from those for a few, and
those from the ones for many. So that a prompt gives the same numbers in any company, and whatever of it is
there already, it is cut as a model for one cuts it, at whole batches, and what is smaller is never small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tanuki_cli.engines.base import Request
from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.sequences import Sequences

MANY: Final = 8
"""From so many ids on, computed together, they give the same numbers (AVX2; with Q8_0 from 2 on)."""
_WORTH_COPYING: Final = 8
"""So many ids must be shared before they are copied."""
_WORTH_WAITING: Final = 16
"""So many ids more must become shared before a prompt waits for another one to compute them."""


class Answering:
    """One request on its way: ``text`` is its prompt and answer so far.

    The last ``awaited`` ids of it were forced by a mask and not given away yet. ``sequence`` is -1 while it
    waits. ``doubted``: its logits were no numbers, which may come from what was in its sequence before.
    """

    __slots__ = ("awaited", "cached_tokens", "chooser", "doubted", "request", "sequence", "text")

    def __init__(self, request: Request, chooser: Chooser, prompt_ids: list[int]) -> None:
        self.request = request
        self.chooser = chooser
        self.text = prompt_ids
        self.awaited = 0
        self.sequence = -1
        self.cached_tokens = 0
        self.doubted = False


class Places:
    """Gives ``sequences`` to requests. ``running`` have one; all are in the order in which they came.

    A sequence that is free keeps its ids until it is needed. ``n_batch`` is how many ids of a prompt are
    computed together at most.
    """

    def __init__(self, sequences: Sequences, *, n_batch: int) -> None:
        self.running: list[Answering] = []
        self._sequences = sequences
        self._n_batch = n_batch
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
        while self._waiting and self._free and self._begins(self._waiting[0]):
            self.running.append(self._waiting.pop(0))

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
        soon = max((shared_length(text, other.text) for other in self.running), default=0)
        length = reusable(length, len(text), n_batch=self._n_batch)
        if reusable(soon, len(text), n_batch=self._n_batch) > length + _WORTH_WAITING:
            return False
        answering.sequence = self._take(source, length)
        answering.cached_tokens = self._sequences.length(answering.sequence)
        return True

    def _longest(self, ids: list[int]) -> tuple[int, int]:
        """The sequence that shares most with ``ids``, and how many; rather one that is free."""
        length, _is_free, source = max(
            (shared_length(ids, self._sequences.ids(sequence)), sequence in self._free, sequence)
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


def shared_length(first: list[int], second: list[int]) -> int:
    """How many ids both lists begin with: :func:`~tanuki_cli.engines.base.shared_prefix` for long ones."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def reusable(length: int, total: int, *, n_batch: int) -> int:
    """How many of ``length`` ids that are there to keep, of a text of ``total``: the last is always
    computed, since its logits are not there, and never with too few before it."""
    length = min(length, total - 1)
    start = length // n_batch * n_batch
    end = min(total, start + n_batch)
    return length if length == start else max(start, min(length, end - MANY))


def chunk_size(done: int, total: int, *, n_batch: int, most: int) -> int:
    """How many ids of a text of ``total`` to compute after the first ``done``; about ``most`` of them."""
    left = min(total, (done // n_batch + 1) * n_batch) - done
    if left <= most:
        return left
    return most if left - most >= MANY else left - MANY

"""The KV caches of several sequences on llama.cpp, and a true record of what is in each.

As in cache.py: every sequence holds exactly the ids in its record, whatever happened before. Where each has
places of its own in the cache, what is computed of one depends on nothing that is in another.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.batch import Batch
from tanuki_cli.engines.llama_cpp.cache import computing_failed
from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted, NativeError

_SLOW_S: Final = 0.25
"""Computations longer than this ask whether to stop while they run; asking costs up to a millisecond."""
_MANY_IDS: Final = 64
"""So do those of so many ids, of which it is not known yet."""


class Part(NamedTuple):
    """What one computation adds to one sequence: the next ``ids``; the last ``outputs`` keep their logits."""

    sequence: int
    ids: Sequence[int]
    outputs: int


class Sequences:
    """What ``context`` has computed of sequences 0 to ``count`` - 1. ``should_stop`` is asked meanwhile."""

    def __init__(self, context: Context, count: int, *, should_stop: Callable[[], bool]) -> None:
        self.context = context
        self.count = count
        self._ids: list[list[int]] = [[] for _sequence in range(count)]
        self._batch = Batch(context.n_batch, context.build.functions)
        self._should_stop = should_stop
        self._is_slow = False

    def ids(self, sequence: int) -> list[int]:
        """The record of ``sequence``: what is computed of it."""
        return self._ids[sequence]

    def length(self, sequence: int) -> int:
        """How many ids are computed of ``sequence``."""
        return len(self._ids[sequence])

    def copy(self, source: int, target: int, length: int) -> None:
        """Let ``target`` begin with the first ``length`` ids of ``source``; whatever was in it is gone.

        Moves as much memory as the cache of one sequence takes; none in a cache that all share.
        """
        self.trim(target, 0)
        self.context.copy(source, target)
        self._ids[target] = list(self._ids[source])
        self.trim(target, length)

    def trim(self, sequence: int, length: int) -> None:
        """Keep the first ``length`` ids of ``sequence``; none where llama.cpp cannot cut there."""
        if length < len(self._ids[sequence]):
            self._cut(sequence, length)

    def clear(self) -> None:
        """Forget everything, and overwrite it."""
        self.context.clear()
        for ids in self._ids:
            ids.clear()

    def compute(self, parts: Sequence[Part]) -> list[int]:
        """Add ``parts``, each of another sequence, in the order of these; where the outputs of each begin.

        Whatever goes wrong, cache and record stay equal: what was not finished can be computed again.
        Raises EngineError, and GenerationCancelled when it was stopped.
        """
        if self._should_stop():
            raise GenerationCancelled
        firsts = self._fill(parts)
        stoppable = self._is_slow or self._batch.size >= _MANY_IDS
        complete = False
        started = time.perf_counter()
        try:
            self.context.decode_batch(self._batch, should_stop=self._should_stop if stoppable else None)
            complete = True
        except DecodeAborted as exc:
            raise GenerationCancelled from exc
        except NativeError as exc:
            raise computing_failed(exc) from exc
        finally:
            if not complete:
                for part in parts:
                    self._cut(part.sequence, len(self._ids[part.sequence]))
        self._is_slow = time.perf_counter() - started > _SLOW_S
        for part in parts:
            self._ids[part.sequence] += part.ids
        return firsts

    def close(self) -> None:
        """Free the caches."""
        self._batch.close()
        self.context.close()

    def _fill(self, parts: Sequence[Part]) -> list[int]:
        batch = self._batch
        batch.clear()
        firsts = []
        for sequence, ids, outputs in parts:
            first = batch.add(ids, len(self._ids[sequence]), sequence=sequence, outputs=outputs)
            firsts.append(first + len(ids) - outputs)
        return firsts

    def _cut(self, sequence: int, length: int) -> None:
        """As :meth:`trim`, what was computed and not recorded included."""
        if not self.context.trim(length, sequence=sequence):
            length = 0
        del self._ids[sequence][length:]

"""The KV cache of several sequences on llama.cpp, and a true record of what is in it.

As in cache.py: every sequence begins with exactly the ids in its record, whatever happened before. A
beginning that two sequences share is in the cache once. Nothing here knows what the ids are for.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.batch import Batch
from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted, NativeError
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.i18n import _

_SLOW_STEP_S: Final = 0.25
"""Steps longer than this ask whether to stop while they run; asking costs up to a millisecond a step."""
_LONG_STEP: Final = 64
"""So do steps of so many ids, of which it is not known yet."""


class Part(NamedTuple):
    """What one step computes of one sequence: the next ``ids``; the last ``outputs`` keep their logits."""

    sequence: int
    ids: Sequence[int]
    outputs: int


class SharedCache:
    """What ``context`` has computed of sequences 0 to ``count`` - 1.

    ``free`` counts the cells that nothing is in: each holds one id, for all sequences that share it.
    ``should_stop`` is asked while it computes.
    """

    def __init__(self, context: Context, count: int, *, should_stop: Callable[[], bool]) -> None:
        self.context = context
        self.count = count
        self.free = context.length
        self._ids: list[list[int]] = [[] for _sequence in range(count)]
        # Which cell each of the ids is in, by numbers of our own, and how many more sequences share one.
        self._cells: list[list[int]] = [[] for _sequence in range(count)]
        self._sharers: dict[int, int] = {}
        self._next_cell = 0
        self._batch = Batch(context.n_batch)
        self._should_stop = should_stop
        self._steps_are_slow = False

    def ids(self, sequence: int) -> list[int]:
        """The record of ``sequence``: what is computed of it."""
        return self._ids[sequence]

    def length(self, sequence: int) -> int:
        """How many ids are computed of ``sequence``."""
        return len(self._ids[sequence])

    def copy(self, source: int, target: int, length: int) -> None:
        """Let ``target`` begin with the first ``length`` ids of ``source``; whatever was in it is gone."""
        self.trim(target, 0)
        if not length:
            return
        self.context.copy(source, target, length)
        shared = self._cells[source][:length]
        for cell in shared:
            self._sharers[cell] = self._sharers.get(cell, 0) + 1
        self._cells[target] = shared
        self._ids[target] = self._ids[source][:length]

    def trim(self, sequence: int, length: int) -> None:
        """Keep the first ``length`` ids of ``sequence``; none where llama.cpp cannot cut there."""
        if length >= len(self._ids[sequence]):
            return
        self._cut(sequence, length)

    def clear(self) -> None:
        """Forget everything, and overwrite it: what is no number would spread from cells that are free."""
        self.context.clear()
        for sequence in range(len(self._ids)):
            self._release(sequence, 0)

    def compute(self, parts: Sequence[Part]) -> list[int]:
        """Add ``parts``, each of another sequence; where the outputs of each begin.

        There must be free cells for all. Whatever goes wrong, cache and record stay equal: a step that
        was not finished can be taken again. Raises EngineError, and GenerationCancelled when it was stopped.
        """
        if self._should_stop():
            raise GenerationCancelled
        firsts = self._fill(parts)
        size = sum(len(part.ids) for part in parts)
        stoppable = self._steps_are_slow or size >= _LONG_STEP
        complete = False
        started = time.perf_counter()
        try:
            self.context.decode_batch(self._batch, should_stop=self._should_stop if stoppable else None)
            complete = True
        except DecodeAborted as exc:
            raise GenerationCancelled from exc
        except NativeError as exc:
            raise EngineError(
                _("llama.cpp failed while computing: {reason}").format(reason=brief(exc)),
                hint=_("Try again; if it stays, use --debug and report it."),
            ) from exc
        finally:
            if not complete:
                for part in parts:
                    self._cut(part.sequence, len(self._ids[part.sequence]))
        self._steps_are_slow = time.perf_counter() - started > _SLOW_STEP_S
        for part in parts:
            self._record(part)
        return firsts

    def close(self) -> None:
        """Free the cache."""
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

    def _record(self, part: Part) -> None:
        count = len(part.ids)
        self._ids[part.sequence] += part.ids
        self._cells[part.sequence] += range(self._next_cell, self._next_cell + count)
        self._next_cell += count
        self.free -= count

    def _cut(self, sequence: int, length: int) -> None:
        """As :meth:`trim`, what was computed and not recorded included."""
        self._release(sequence, length if self.context.trim(length, sequence=sequence) else 0)

    def _release(self, sequence: int, length: int) -> None:
        cells, sharers = self._cells[sequence], self._sharers
        for cell in cells[length:]:
            others = sharers.pop(cell, 0)
            if others > 1:
                sharers[cell] = others - 1
            self.free += not others
        del cells[length:]
        del self._ids[sequence][length:]


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

"""How long computations take in one context."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted
from tanuki_cli.i18n import _

STEPS: Final = 4
"""Computations that a single step is measured by."""
CONTEXT_LENGTH: Final = 1024
"""Tokens of the contexts that are measured in."""
_SHORT_S: Final = 0.2
_TRIES_IF_SHORT: Final = 3
_TRIES_IF_DISTURBED: Final = 2
_DISTURBED: Final = 1.5
"""A single step that takes this many times the fastest one was not alone on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends measurements: ``should_stop``, asked all the time, and the ``deadline`` by time.monotonic().
    ``report`` is told each of them."""

    should_stop: Callable[[], bool]
    deadline: float
    report: Callable[[str], None]

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


class Runs:
    """Seconds of single steps by their threads, and of batches by their threads and size, of a ``text`` that
    is repeated.

    A single step after each batch tells whether something else on the machine disturbed it.
    """

    def __init__(self, context: Context, limits: Limits, text: Sequence[int]) -> None:
        self._context = context
        self._ids = [*islice(cycle(text), CONTEXT_LENGTH)]
        self._limits = limits
        self.steps: dict[int, float] = {}
        self._batches: dict[tuple[int, int], float] = {}

    def step(self, threads: int) -> float:
        """The fastest of a few; the first one warms up."""
        if threads not in self.steps:
            self._context.set_threads(threads)
            self._context.trim(0)
            seconds: list[float] = []
            while len(seconds) < 2 or (len(seconds) < STEPS and self._limits.left_s > seconds[-1]):
                seconds.append(self._time(1, len(seconds)))
            self.steps[threads] = min(seconds[1:])
            name = _("one token, {threads} threads").format(threads=threads)
            self._limits.report(f"{name}: {self.steps[threads]:.3f} s")
        return self.steps[threads]

    def batch(self, threads: int, size: int, *, look: Callable[[Context], None] | None = None) -> float:
        """Once, or the fastest of a few where that takes no time, or something else disturbed it."""
        known = self._batches.get((threads, size))
        if known is not None and look is None:
            return known
        self._context.set_threads(threads)
        seconds: list[float] = []
        again = True
        while again:
            self._context.trim(0)
            seconds.append(self._time(size, 0))
            if look is not None and len(seconds) == 1:
                look(self._context)
            again = self._is_disturbed(threads, size) and len(seconds) < _TRIES_IF_DISTURBED
            again = again or (seconds[-1] < _SHORT_S and len(seconds) < _TRIES_IF_SHORT)
            again = again and self._limits.left_s > 2 * seconds[-1]
        best = self._batches[threads, size] = min(seconds if known is None else [known, *seconds])
        name = _("{size} tokens at once, {threads} threads").format(size=size, threads=threads)
        self._limits.report(f"{name}: {best:.3f} s")
        return best

    def _is_disturbed(self, threads: int, position: int) -> bool:
        """Whether a single step is much slower now than it can be."""
        if threads not in self.steps or position >= CONTEXT_LENGTH:
            return False
        seconds = self._time(1, position)
        self.steps[threads] = min(seconds, self.steps[threads])
        return seconds > _DISTURBED * self.steps[threads]

    def _time(self, count: int, position: int) -> float:
        if self._limits.should_stop():
            raise DecodeAborted
        ids = self._ids[position : position + count]
        before = time.perf_counter()
        # Asking costs a single step a part of its time.
        should_stop = self._limits.should_stop if count > 1 else None
        self._context.decode(
            ids, position, outputs=min(count, self._context.max_outputs), should_stop=should_stop
        )
        return time.perf_counter() - before

"""How long computations take in one context, and when there is no time left to find out."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

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


class OutOfTime(Exception):
    """There is not the time for a measurement, or it took longer than there was."""


class Limits(Struct, frozen=True, kw_only=True):
    """What ends measurements: a Ctrl-C, of which ``interrupted`` tells, and the ``deadline`` by ``clock``.

    Nothing is begun that is expected to take longer than is left, and what does all the same is broken off:
    all but a single step, which asking would slow down. ``report`` is told each measurement, and each that
    was left out.
    """

    deadline: float
    interrupted: Callable[[], bool] = lambda: False
    report: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.perf_counter

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.clock()

    def should_stop(self) -> bool:
        """Whether what is running is to end."""
        return self.interrupted() or self.left_s <= 0

    def within(self, seconds: float) -> "Limits":
        """The same, but so many seconds from now at the latest."""
        return replace(self, deadline=min(self.deadline, self.clock() + seconds))

    def require(self, seconds: float, *, name: str) -> None:
        """Say, and raise OutOfTime, where the measurement ``name`` takes ``seconds``, and less is left."""
        if self.left_s < seconds:
            raise self.out_of_time(name)

    def out_of_time(self, name: str) -> OutOfTime:
        """Say that there is no time for the measurement ``name``; what to raise then."""
        self.report(_("{name}: no time left").format(name=name))
        return OutOfTime()


class Runs:
    """Seconds of single steps by their threads, and of batches by their threads and size, of a ``text`` that
    is repeated. What has no time left raises OutOfTime, Ctrl-C raises DecodeAborted.

    A single step after each batch tells whether something else on the machine disturbed it.
    """

    def __init__(self, context: Context, limits: Limits, text: Sequence[int]) -> None:
        self._context = context
        self._ids = [*islice(cycle(text), CONTEXT_LENGTH)]
        self._limits = limits
        self.steps: dict[int, float] = {}
        self._batches: dict[tuple[int, int], float] = {}

    def step(self, threads: int, *, expected_s: float = 0.0) -> float:
        """The fastest of a few; the first one warms up."""
        if threads not in self.steps:
            name = _("one token, {threads} threads").format(threads=threads)
            self._limits.require(expected_s, name=name)
            self._context.set_threads(threads)
            self._context.trim(0)
            try:
                seconds = [self._time(1, 0, may_break_off=True)]
            except OutOfTime:
                raise self._limits.out_of_time(name) from None
            self._limits.require(seconds[0], name=name)
            while len(seconds) < 2 or (len(seconds) < STEPS and self._limits.left_s > seconds[-1]):
                seconds.append(self._time(1, len(seconds)))
            self.steps[threads] = min(seconds[1:])
            self._limits.report(f"{name}: {self.steps[threads]:.3f} s")
        return self.steps[threads]

    def batch(
        self,
        threads: int,
        size: int,
        *,
        expected_s: float = 0.0,
        look: Callable[[Context], None] | None = None,
    ) -> float:
        """Once, or the fastest of a few where that takes no time, or something else disturbed it. ``look``
        sees the context after the first of them."""
        known = self._batches.get((threads, size))
        if known is not None and look is None:
            return known
        name = _("{size} tokens at once, {threads} threads").format(size=size, threads=threads)
        self._limits.require(expected_s, name=name)
        self._context.set_threads(threads)
        seconds: list[float] = []
        again = True
        while again:
            self._context.trim(0)
            try:
                seconds.append(self._time(size, 0, may_break_off=True))
            except OutOfTime:
                break
            if look is not None and len(seconds) == 1:
                look(self._context)
            again = self._is_disturbed(threads, size) and len(seconds) < _TRIES_IF_DISTURBED
            again = again or (seconds[-1] < _SHORT_S and len(seconds) < _TRIES_IF_SHORT)
            again = again and self._limits.left_s > 2 * seconds[-1]
        if not seconds:
            raise self._limits.out_of_time(name)
        best = self._batches[threads, size] = min(seconds if known is None else [known, *seconds])
        self._limits.report(f"{name}: {best:.3f} s")
        return best

    def _is_disturbed(self, threads: int, position: int) -> bool:
        """Whether a single step is much slower now than it can be."""
        step_s = self.steps.get(threads)
        if step_s is None or step_s > self._limits.left_s or position >= CONTEXT_LENGTH:
            return False
        seconds = self._time(1, position)
        self.steps[threads] = min(seconds, step_s)
        return seconds > _DISTURBED * self.steps[threads]

    def _time(self, count: int, position: int, *, may_break_off: bool = False) -> float:
        if self._limits.interrupted():
            raise DecodeAborted
        ids = self._ids[position : position + count]
        before = self._limits.clock()
        # Asking costs a single step a part of its time.
        should_stop = self._limits.should_stop if may_break_off else None
        try:
            self._context.decode(
                ids, position, outputs=min(count, self._context.max_outputs), should_stop=should_stop
            )
        except DecodeAborted:
            if self._limits.interrupted():
                raise
            raise OutOfTime from None
        return self._limits.clock() - before

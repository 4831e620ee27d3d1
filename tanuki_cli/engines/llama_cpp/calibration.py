"""Measuring how a model runs best on this machine, in at most twenty seconds, in a context of its own.

The weights are those already loaded, so memory is needed for one small KV cache only. Repacked weights
are a second copy: they are tried only where it fits, and where making it does not take all the time.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, without_vocabulary
from tanuki_cli.engines.llama_cpp.native import Context, ContextParams, DecodeAborted, Model, NativeError
from tanuki_cli.engines.llama_cpp.tuning import Tuning
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import usable_physical_cores

BUDGET_S: Final = 20.0
CONTEXT_LENGTH: Final = 1024
"""Tokens of the contexts that are measured in."""
_STEPS: Final = 4
_PROMPT: Final = 64
_BATCHES: Final = (512, 1024)
"""Sizes above the default that a fast machine tries for a prompt."""
_WORTH_IT: Final = 1.05
"""A candidate must be this much faster than what would be used without it."""
_REPACK_BYTES_PER_S: Final = 300_000_000
_REPACK_WORTH_IT: Final = 1.25
"""Repacking doubles the memory and is done again at every load: that wants more than a few per cent."""
_IN_PLACE_WORTH_IT: Final = 1.15
"""Without the second copy it is still done at every load."""
_IDS: Final = tuple(300 + index * 7 % 600 for index in range(CONTEXT_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured: ``weights`` of the file at ``path``, in contexts with ``params``, which are
    like the real one's but for the length."""

    weights: Model
    path: Path
    facts: ModelFacts
    params: Callable[[Tuning], ContextParams]
    gpu_layers: int
    available_bytes: int


def calibrate(
    bench: Bench,
    start: Tuning,
    *,
    should_stop: Callable[[], bool],
    budget_s: float = BUDGET_S,
    report: Callable[[str, float], None] = lambda name, seconds: None,
) -> Tuning:
    """``start``, with what was found to be faster within ``budget_s`` seconds.

    ``report`` is told the name of every trial and the seconds it took. When ``should_stop`` says so,
    or llama.cpp fails, ``start`` is given back: unmeasured, but good.
    """
    trial = _Trial(bench, should_stop=should_stop, deadline=time.monotonic() + budget_s, report=report)
    try:
        with closing(Context(bench.weights, bench.params(start))) as context:
            tuning = trial.choose_threads(context, start)
            tuning = replace(tuning, draft_costs=trial.measure_drafts(context, tuning))
        tuning = trial.choose_batch(tuning)
        return replace(trial.choose_repack(tuning), measured=True)
    except (DecodeAborted, NativeError):
        return start


class _Trial:
    """The measurements, each only if the time that is left allows it."""

    def __init__(
        self,
        bench: Bench,
        *,
        should_stop: Callable[[], bool],
        deadline: float,
        report: Callable[[str, float], None],
    ) -> None:
        self._bench = bench
        self._should_stop = should_stop
        self._deadline = deadline
        self._report = report
        self._step_s = 0.0  # seconds of a single step, once known

    def choose_threads(self, context: Context, start: Tuning) -> Tuning:
        """The number of threads that is fastest for single tokens, and for a prompt."""
        default = start.threads
        steps = {default: self._step(context, default)}
        self._step_s = steps[default]
        candidates = _thread_candidates(default)
        for threads in candidates:
            if self._left() > 2 * (_STEPS + 1) * self._step_s:
                steps[threads] = self._step(context, threads)
        self._step_s = min(steps.values())
        prompts: dict[int, float] = {}
        for threads in (default, *candidates) if candidates else ():
            if self._left() > 2 * max([_PROMPT * self._step_s / 3, *prompts.values()]):
                prompts[threads] = self._batch(context, threads, _PROMPT)
        best = _best(steps, default)
        return replace(start, threads=best, prompt_threads=_best(prompts, default) if prompts else best)

    def measure_drafts(self, context: Context, tuning: Tuning) -> tuple[tuple[int, float], ...]:
        """The cost of every draft length in single steps; what there is no time for is estimated.

        A batch of a draft is computed with the threads of a prompt, as llama.cpp does.
        """
        costs, usual, slower = [(1, 1.0)], dict(tuning.draft_costs), 1.0
        for size in (length + 1 for length in LENGTHS):
            if self._left() > size * self._step_s:
                cost = self._batch(context, tuning.prompt_threads, size) / self._step_s
                slower = cost / usual[size]
            else:
                cost = usual[size] * slower
            costs.append((size, cost))
        return tuple(costs)

    def choose_batch(self, tuning: Tuning) -> Tuning:
        """Larger batches for prompts, where the machine is so fast that trying them takes no time."""
        bench, best = self._bench, tuning.n_batch
        speeds: dict[int, float] = {}
        for size in (tuning.n_batch, *_BATCHES):
            expected = size * self._step_s
            if size > bench.facts.n_ctx_train or self._left() < 2 * expected or expected > self._left() / 4:
                break
            with closing(Context(bench.weights, bench.params(replace(tuning, n_batch=size)))) as context:
                speeds[size] = size / self._batch(context, tuning.prompt_threads, size)
            if speeds[size] > _WORTH_IT * speeds.get(best, 0.0):
                best = size
        return replace(tuning, n_batch=best)

    def choose_repack(self, tuning: Tuning) -> Tuning:
        """Repacked weights, where they are so much faster that they pay."""
        bench = self._bench
        fits = 2 * bench.facts.file_bytes < bench.available_bytes
        seconds = bench.facts.file_bytes / _REPACK_BYTES_PER_S
        if bench.gpu_layers or not fits or self._left() < 2 * seconds + 2 * _PROMPT * self._step_s:
            return tuning
        with closing(Context(bench.weights, bench.params(tuning))) as context:
            plain = self._times(context, tuning)
        with (
            closing(
                Model(
                    bench.path,
                    gpu_layers=0,
                    repack=True,
                    metadata=without_vocabulary(bench.facts),
                    should_stop=self._should_stop,
                    build=bench.weights.build,
                )
            ) as weights,
            closing(Context(weights, bench.params(tuning))) as context,
        ):
            repacked = self._times(context, tuning)
        gain = _IN_PLACE_WORTH_IT if bench.weights.build.repacks_in_place else _REPACK_WORTH_IT
        pays = all(before > gain * after for before, after in zip(plain, repacked, strict=True))
        return replace(tuning, repack=pays)

    def _times(self, context: Context, tuning: Tuning) -> tuple[float, float]:
        return (
            self._step(context, tuning.threads),
            self._batch(context, tuning.prompt_threads, _PROMPT),
        )

    def _step(self, context: Context, threads: int) -> float:
        """Seconds of one single step; the first one warms up."""
        seconds = self._time(context, ((id_,) for id_ in _IDS[: _STEPS + 1]), threads)
        self._report(_("one token, {threads} threads").format(threads=threads), min(seconds[1:]))
        return min(seconds[1:])

    def _batch(self, context: Context, threads: int, size: int) -> float:
        """Seconds of one batch of ``size`` ids; the better of two where time allows."""
        seconds = self._time(context, [_IDS[:size]], threads)
        if self._left() > 4 * seconds[0]:
            seconds += self._time(context, [_IDS[:size]], threads)
        name = _("{size} tokens at once, {threads} threads").format(size=size, threads=threads)
        self._report(name, min(seconds))
        return min(seconds)

    def _time(self, context: Context, batches: Iterable[Sequence[int]], threads: int) -> list[float]:
        context.set_threads(threads)
        context.trim(0)
        position, seconds = 0, []
        for batch in batches:
            if self._should_stop():
                raise DecodeAborted
            before = time.perf_counter()
            # Asking costs a single step a part of its time.
            should_stop = self._should_stop if len(batch) > 1 else None
            outputs = min(len(batch), context.max_outputs)
            context.decode(batch, position, outputs=outputs, should_stop=should_stop)
            seconds.append(time.perf_counter() - before)
            position += len(batch)
        return seconds

    def _left(self) -> float:
        return self._deadline - time.monotonic()


def _thread_candidates(default: int) -> list[int]:
    """Half of the physical cores, all of them, and every logical one."""
    physical, logical = usable_physical_cores(), os.cpu_count() or 1
    candidates = {max(1, physical // 2), physical, logical}
    if physical <= 2:
        candidates.discard(1)
    return sorted(candidates - {default})


def _best(seconds: dict[int, float], default: int) -> int:
    """The fastest; the default unless another is clearly faster."""
    best = min(seconds, key=lambda threads: seconds[threads])
    return best if seconds[default] > _WORTH_IT * seconds[best] else default

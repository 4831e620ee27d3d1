"""Measuring how a model runs best on this machine, in contexts of its own.

The weights are those already loaded, so memory is needed for one small KV cache only. Only what can change
a decision is measured: on two cores, where nobody has more threads to choose from, that is what batches
cost. Repacked weights take long to make, and with llama.cpp a second copy: they are tried where the time
and the memory are there.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.builds import Build
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, without_vocabulary
from tanuki_cli.engines.llama_cpp.native import Context, ContextParams, DecodeAborted, Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan
from tanuki_cli.engines.llama_cpp.speeds import Speed
from tanuki_cli.engines.llama_cpp.timing import CONTEXT_LENGTH, STEPS, Limits, Runs
from tanuki_cli.engines.llama_cpp.tuning import Record, Tuner, Tuning, default_tuning
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.machine.hardware import inspect_machine, usable_cpus, usable_physical_cores

_BUDGET_S: Final = 10
_IN_PLACE_BUDGET_S: Final = 30
"""With weights that are repacked in place, which is always worth trying."""
_AGAIN_BUDGET_S: Final = 60
"""Where somebody asked for it, and for all of it."""
_LOOK_S: Final = 10
"""What comes to it where libraries are compared."""
_PROMPT: Final = 64
_MARKS: Final = (2, 5, 16)
"""Batches between which the others are estimated where they take longer than a moment."""
_MOMENT_S: Final = 1.0
_BATCHES: Final = (256, 512, 1024)
"""Sizes for a prompt on a GPU. On a CPU it is computing that takes the time, not reading weights."""
_WORTH_IT: Final = 1.05
"""A candidate must be this much faster than what would be used without it."""
_REPACK_BYTES_PER_S: Final = 300_000_000
_IN_PLACE_BYTES_PER_S: Final = 600_000_000
"""Measured on one machine: 340 and 700 million."""
_SIZES: Final = sorted((length + 1 for length in LENGTHS), key=lambda size: size not in _MARKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured: ``weights`` of the file at ``path``, which took ``load_s`` to load with
    ``gpu_layers`` as ``plan`` says; and with what ``text``."""

    weights: Model
    load_s: float
    path: Path
    facts: ModelFacts
    plan: LoadPlan
    gpu_layers: int
    text: Sequence[int]

    def params(self, tuning: Tuning) -> ContextParams:
        """A context like the real one but for the length."""
        return self.plan.context_params(tuning, gpu_layers=self.gpu_layers, length=CONTEXT_LENGTH)


def most_seconds(build: Build, *, again: bool, compared: bool) -> int:
    """What :func:`measure` takes at most with ``build``, ``compared`` with another."""
    if again:
        return _AGAIN_BUDGET_S
    return (_IN_PLACE_BUDGET_S if build.repacks_in_place else _BUDGET_S) + (_LOOK_S if compared else 0)


def measure(bench: Bench, tuner: Tuner, *, look: Callable[[Context], None] | None = None) -> Record:
    """Announce it, and :func:`calibrate`; after a Ctrl-C that gives the defaults.

    What has to be read from the disk before a first answer is read first: no time of the measurement.
    """
    start = default_tuning(bench.facts, gpu=bench.gpu_layers > 0)
    with closing(Context(bench.weights, bench.params(start))) as context:
        context.decode(bench.text[:1], 0)
    budget_s = most_seconds(bench.weights.build, again=tuner.again, compared=look is not None)
    if tuner.announce is not None:
        tuner.announce(budget_s)
    stopped: list[bool] = []
    with on_interrupt(lambda: stopped.append(True)):
        tuner.report(f"{bench.weights.build.name}:")
        return calibrate(
            bench,
            start,
            should_stop=lambda: bool(stopped),
            budget_s=budget_s,
            report=tuner.report,
            look=look,
        )


def calibrate(
    bench: Bench,
    start: Tuning,
    *,
    should_stop: Callable[[], bool],
    budget_s: float,
    report: Callable[[str], None] = lambda line: None,
    look: Callable[[Context], None] | None = None,
) -> Record:
    """``start``, with what was found to be faster within ``budget_s`` seconds, and how fast that is.

    ``report`` is told every trial and what came of it. ``look`` sees the context of every kind of weights
    right after the same part of the text was computed. When ``should_stop`` says so, or llama.cpp fails, it
    is what was found so far: at first ``start``, unmeasured, but good.
    """
    limits = Limits(should_stop=should_stop, deadline=time.monotonic() + budget_s, report=report)
    trial, record = _Trial(bench, start, limits, look), Record(tuning=start)
    with suppress(DecodeAborted, NativeError):
        with closing(Context(bench.weights, bench.params(start))) as context:
            record = trial.choose_threads(Runs(context, limits, bench.text))
        if bench.gpu_layers:
            record = trial.choose_batch(record)
        elif trial.may_repack(record):
            repacked = trial.repacked(record.tuning)
            in_place = bench.weights.build.repacks_in_place
            record = replace(record, repacked=repacked, in_place=in_place)
    _report_gain(record, report)
    return record


def _report_gain(record: Record, report: Callable[[str], None]) -> None:
    best = record.best("chat")
    if record.default is None or best is None:
        return
    report(
        _("gained over the defaults: prompt {prompt:.2f}, answer {answer:.2f}").format(
            prompt=record.default.prompt_s / best.prompt_s, answer=record.default.step_s / best.step_s
        )
    )


class _Trial:
    """The measurements, each only if the time that is left allows it."""

    def __init__(
        self, bench: Bench, start: Tuning, limits: Limits, look: Callable[[Context], None] | None
    ) -> None:
        self._bench = bench
        self._start = start
        self._limits = limits
        self._look = look
        self._candidates = _thread_candidates(start.threads)
        self._has_prompts = look is not None

    def choose_threads(self, runs: Runs) -> Record:
        """The number of threads that is fastest for single tokens, and for a prompt."""
        default, candidates = self._start.threads, self._candidates
        runs.step(default)
        for threads in candidates:
            if self._limits.left_s > 2 * STEPS * min(runs.steps.values()):
                runs.step(threads)
        tuning = replace(self._start, threads=_best(runs.steps, default))
        prompts: dict[int, float] = {}
        for threads in (default, *candidates) if candidates else ():
            if self._limits.left_s > 2 * max([_PROMPT * runs.steps[default] / 3, *prompts.values()]):
                prompts[threads] = runs.batch(threads, _PROMPT)
                self._has_prompts = True
        best = _best(prompts, default) if default in prompts else tuning.threads
        tuning = replace(tuning, prompt_threads=best)
        plain = self._speed(runs, tuning, load_s=self._bench.load_s)
        changed = best != default and default in prompts
        prompt_s = prompts[default] / _PROMPT if changed else plain.prompt_s
        return Record(
            tuning=replace(tuning, draft_costs=plain.costs, measured=True),
            default=replace(plain, prompt_s=prompt_s, step_s=runs.steps[default]),
            plain=plain,
        )

    def choose_batch(self, record: Record) -> Record:
        """Larger batches for a prompt, where a GPU is so fast that trying them takes no time."""
        bench, tuning = self._bench, record.tuning
        assert record.default is not None
        assert record.plain is not None
        times: dict[int, float] = {}
        best = tuning.n_batch
        for size in _BATCHES:
            if size > bench.facts.n_ctx_train or self._limits.left_s < 4 * size * record.plain.prompt_s:
                break
            with closing(Context(bench.weights, bench.params(replace(tuning, n_batch=size)))) as context:
                times[size] = (
                    Runs(context, self._limits, bench.text).batch(tuning.prompt_threads, size) / size
                )
            if times.get(best, times[size]) > _WORTH_IT * times[size]:
                best = size
        if best not in times:
            return record
        return replace(
            record,
            tuning=replace(tuning, n_batch=best),
            default=replace(record.default, prompt_s=times[tuning.n_batch]),
            plain=replace(record.plain, prompt_s=times[best]),
        )

    def may_repack(self, record: Record) -> bool:
        """Whether repacked weights fit, and can be made and measured in the time that is left."""
        assert record.plain is not None
        size, in_place = self._bench.facts.file_bytes, self._bench.weights.build.repacks_in_place
        available = inspect_machine(os.environ).available_ram_bytes
        if size * (1 if in_place else 2) > available:
            return False
        making = size / (_IN_PLACE_BYTES_PER_S if in_place else _REPACK_BYTES_PER_S)
        steps = STEPS + 2 * sum(cost for _size, cost in record.plain.costs)
        return self._limits.left_s > making + steps * record.plain.step_s

    def repacked(self, tuning: Tuning) -> Speed:
        """How fast repacked weights are."""
        bench, before = self._bench, time.perf_counter()
        with closing(
            Model(
                bench.path,
                gpu_layers=0,
                repack=True,
                metadata=without_vocabulary(bench.facts),
                should_stop=self._limits.should_stop,
                build=bench.weights.build,
            )
        ) as weights:
            load_s = time.perf_counter() - before
            self._limits.report(_("repacked weights, to load: {seconds:.1f} s").format(seconds=load_s))
            with closing(Context(weights, bench.params(tuning))) as context:
                return self._speed(Runs(context, self._limits, bench.text), tuning, load_s=load_s)

    def _speed(self, runs: Runs, tuning: Tuning, *, load_s: float) -> Speed:
        """Of ``tuning``. What a batch takes is estimated where it takes too long to measure it.

        A batch of a draft is computed with the threads of a prompt, as llama.cpp does.
        """
        threads, usual = tuning.prompt_threads, dict(tuning.draft_costs)
        step_s, prompt_s = runs.step(tuning.threads), None
        if self._has_prompts:
            prompt_s = runs.batch(threads, _PROMPT, look=self._look) / _PROMPT
        seconds: dict[int, float] = {}
        for size in _SIZES:
            expected = usual[size] * step_s * _between(size, _ratios(seconds, usual, step_s))
            longest = self._limits.left_s / 1.5
            if expected < (longest if size in _MARKS else min(longest, _MOMENT_S)):
                seconds[size] = runs.batch(threads, size)
        step_s = runs.steps[tuning.threads]  # the fastest that was seen meanwhile
        ratios = _ratios(seconds, usual, step_s)
        # A batch that takes longer than its tokens one by one was disturbed, or is of no use: all the same.
        costs = {
            size: min(float(size), max(1.0, usual[size] * _between(size, ratios))) for size in sorted(usual)
        }
        largest = max(costs)
        return Speed(
            load_s=load_s,
            prompt_s=prompt_s or costs[largest] * step_s / largest,
            step_s=step_s,
            costs=tuple(costs.items()),
        )


def _ratios(seconds: Mapping[int, float], usual: Mapping[int, float], step_s: float) -> dict[int, float]:
    """How many times dearer than usual batches of each size are."""
    return {size: batch_s / (usual[size] * step_s) for size, batch_s in seconds.items()}


def _between(size: int, ratios: Mapping[int, float]) -> float:
    """The ratio of ``size``, or the mean of those of the nearest sizes below and above."""
    if size in ratios:
        return ratios[size]
    below = [ratios[other] for other in sorted(ratios) if other < size][-1:]
    above = [ratios[other] for other in sorted(ratios) if other > size][:1]
    near = [*below, *above]
    return sum(near) / len(near) if near else 1.0


def _thread_candidates(default: int) -> list[int]:
    """Half of the physical cores, all of them, and every logical one."""
    physical, logical = usable_physical_cores(), usable_cpus()
    candidates = {max(1, physical // 2), physical, logical}
    if physical <= 2:
        candidates.discard(1)
    return sorted(candidates - {default})


def _best(seconds: dict[int, float], default: int) -> int:
    """The fastest; the default unless another is clearly faster."""
    best = min(seconds, key=lambda threads: seconds[threads])
    return best if seconds[default] > _WORTH_IT * seconds[best] else default

"""Measuring how a model runs best on this machine, in contexts of its own.

The weights are those already loaded, so memory is needed for one small KV cache only. Only what can change
a decision is measured: on two cores, where nobody has more threads to choose from, that is what batches
cost. Repacked weights take long to make, and with llama.cpp a second copy: they are tried where the time
and the memory are there.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.engines.llama_cpp.builds import Build
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.engines.llama_cpp.native import Context, ContextParams, DecodeAborted, Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan
from tanuki_cli.engines.llama_cpp.timing import CONTEXT_LENGTH, STEPS, Limits, OutOfTime, Runs
from tanuki_cli.engines.llama_cpp.tuning import Record, Speed, Tuner, Tuning
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
_SURELY: Final = 1.5
"""What is estimated may take this many times as long."""
_REPACK_BYTES_PER_S: Final = 300_000_000
_IN_PLACE_BYTES_PER_S: Final = 600_000_000
"""Measured on one machine: 340 and 700 million."""
_SIZES: Final = (*_MARKS, *(length + 1 for length in LENGTHS if length + 1 not in _MARKS))

Look = Callable[[Context], None]
"""Sees the context of every kind of weights right after the same part of the text was computed."""


class Bench(Struct, frozen=True, kw_only=True):
    """What is measured: ``weights``, which took ``load_s`` to load as ``plan`` says; and with what
    ``text``."""

    plan: LoadPlan
    weights: Model
    load_s: float
    text: Sequence[int]

    def params(self, tuning: Tuning) -> ContextParams:
        """A context like the real one but for the length."""
        return self.plan.context_params(tuning, length=CONTEXT_LENGTH)


def prepare(
    plan: LoadPlan,
    weights: Model,
    *,
    load_s: float,
    tuner: Tuner,
    should_stop: Callable[[], bool] | None = None,
) -> Bench:
    """What has to be read from the disk before a first answer is read: no time of a measurement. Raises
    NativeError, and DecodeAborted where ``should_stop`` says so."""
    bench = Bench(plan=plan, weights=weights, load_s=load_s, text=tuner.text())
    with closing(Context(weights, bench.params(plan.default_tuning()))) as context:
        context.decode(bench.text[:1], 0, should_stop=should_stop)
    return bench


def most_seconds(build: Build, *, again: bool, compared: bool = False) -> int:
    """What :func:`calibrate` may take with ``build``, ``compared`` with another."""
    if again:
        return _AGAIN_BUDGET_S
    return (_IN_PLACE_BUDGET_S if build.repacks_in_place else _BUDGET_S) + (_LOOK_S if compared else 0)


@contextmanager
def announced(tuner: Tuner, seconds: int) -> Iterator[Limits]:
    """Say that measuring begins and takes at most so many ``seconds``, of which Ctrl-C spares the rest."""
    interrupted: list[bool] = []
    with on_interrupt(lambda: interrupted.append(True)):
        if tuner.announce is not None:
            tuner.announce(seconds)
        yield Limits(
            deadline=tuner.clock() + seconds,
            interrupted=lambda: bool(interrupted),
            report=tuner.report,
            clock=tuner.clock,
        )


def measure(plan: LoadPlan, weights: Model, *, load_s: float, tuner: Tuner) -> Record:
    """Announce it, :func:`calibrate`, and remember what was found; after a Ctrl-C the defaults, so that
    nobody waits twice. Only the defaults where it is not to be measured now. Raises NativeError."""
    key = plan.tuning_key()  # of the file as it was: what is measured takes a while
    with tuner.measuring() as now:
        if not now:
            return Record(tuning=plan.default_tuning())
        bench = prepare(plan, weights, load_s=load_s, tuner=tuner)
        with announced(tuner, most_seconds(plan.build, again=tuner.again)) as limits:
            record = calibrate(bench, limits)
        tuner.store.save(key, record)
    return record


def calibrate(bench: Bench, limits: Limits, *, look: Look | None = None) -> Record:
    """The defaults, with what was found to be faster within ``limits``, and how fast that is.

    When it is ended, or llama.cpp fails, it is what was found so far: at first the defaults, unmeasured, but
    good.
    """
    limits.report(f"{bench.plan.build.name}:")
    trial, record = _Trial(bench, limits, look), Record(tuning=bench.plan.default_tuning())
    with suppress(OutOfTime, DecodeAborted, NativeError):
        tuning, default, plain = trial.choose_threads()
        record = Record(tuning=tuning, default=default, plain=plain)
        if bench.plan.gpu_layers:
            record = trial.choose_batch(tuning, default, plain)
        elif trial.has_room_for_repacked():
            repacked = trial.repacked(tuning, plain)
            record = replace(record, repacked=repacked, in_place=bench.plan.build.repacks_in_place)
    _report_gain(record, limits.report)
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
    """The measurements. Each raises OutOfTime where nothing can be said in the time that is left; what is
    of less weight is left out."""

    def __init__(self, bench: Bench, limits: Limits, look: Look | None) -> None:
        self._bench = bench
        self._limits = limits
        self._look = look
        self._start = bench.plan.default_tuning()
        self._has_prompts = look is not None

    def choose_threads(self) -> tuple[Tuning, Speed, Speed]:
        """The number of threads that is fastest for single tokens, and for a prompt; how fast the defaults
        are, and how fast that is."""
        default, candidates = self._start.threads, _thread_candidates(self._start.threads)
        with closing(Context(self._bench.weights, self._bench.params(self._start))) as context:
            runs = Runs(context, self._limits, self._bench.text)
            step_s, prompts = runs.step(default), dict[int, float]()
            with suppress(OutOfTime):
                for threads in candidates:
                    runs.step(threads, expected_s=2 * STEPS * min(runs.steps.values()))
                for threads in (default, *candidates) if candidates else ():
                    longest = max([_PROMPT * step_s / 3, *prompts.values()])
                    prompts[threads] = runs.batch(threads, _PROMPT, expected_s=2 * longest)
            threads = _best(runs.steps, default)
            prompt_threads = _best(prompts, default) if prompts else threads
            self._has_prompts = self._has_prompts or bool(prompts)
            tuning = replace(self._start, threads=threads, prompt_threads=prompt_threads)
            plain = self._speed(runs, tuning, load_s=self._bench.load_s)
            prompt_s = runs.batch(default, _PROMPT) / _PROMPT if prompts else plain.prompt_s
        tuning = replace(tuning, draft_costs=plain.costs, measured=True)
        return tuning, replace(plain, prompt_s=prompt_s, step_s=runs.steps[default]), plain

    def choose_batch(self, tuning: Tuning, default: Speed, plain: Speed) -> Record:
        """Larger batches for a prompt, where a GPU is so fast that trying them takes no time."""
        bench, times = self._bench, dict[int, float]()
        with suppress(OutOfTime):
            for size in _BATCHES:
                if size > bench.plan.facts.n_ctx_train:
                    break
                with closing(Context(bench.weights, bench.params(replace(tuning, n_batch=size)))) as context:
                    runs = Runs(context, self._limits, bench.text)
                    expected_s = 4 * size * plain.prompt_s
                    times[size] = runs.batch(tuning.prompt_threads, size, expected_s=expected_s) / size
        if tuning.n_batch not in times:
            return Record(tuning=tuning, default=default, plain=plain)
        best = _best(times, tuning.n_batch)
        return Record(
            tuning=replace(tuning, n_batch=best),
            default=replace(default, prompt_s=times[tuning.n_batch]),
            plain=replace(plain, prompt_s=times[best]),
        )

    def has_room_for_repacked(self) -> bool:
        """Whether the memory holds repacked weights beside what is there."""
        plan = self._bench.plan
        available = inspect_machine(os.environ).available_ram_bytes
        return plan.facts.file_bytes * (1 if plan.build.repacks_in_place else 2) <= available

    def repacked(self, tuning: Tuning, plain: Speed) -> Speed:
        """How fast repacked weights are."""
        bench, limits, name = self._bench, self._limits, _("repacked weights, to load")
        rate = _IN_PLACE_BYTES_PER_S if bench.plan.build.repacks_in_place else _REPACK_BYTES_PER_S
        steps = STEPS + 2 * sum(cost for _size, cost in plain.costs)
        limits.require(bench.plan.facts.file_bytes / rate + steps * plain.step_s, name=name)
        before = limits.clock()
        try:
            weights = bench.plan.load_weights(repack=True, should_stop=limits.should_stop)
        except NativeError:
            if limits.left_s > 0:
                raise
            raise limits.out_of_time(name) from None
        with closing(weights):
            load_s = limits.clock() - before
            limits.report(f"{name}: {load_s:.1f} s")
            with closing(Context(weights, bench.params(tuning))) as context:
                return self._speed(Runs(context, limits, bench.text), tuning, load_s=load_s)

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
            expected_s = usual[size] * step_s * _between(size, _ratios(seconds, usual, step_s))
            if size in _MARKS or expected_s < _MOMENT_S:
                with suppress(OutOfTime):
                    seconds[size] = runs.batch(threads, size, expected_s=_SURELY * expected_s)
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


def _best(seconds: Mapping[int, float], default: int) -> int:
    """What takes the fewest seconds; the default unless another is clearly faster."""
    best = min(seconds, key=lambda candidate: seconds[candidate])
    return best if seconds[default] > _WORTH_IT * seconds[best] else default

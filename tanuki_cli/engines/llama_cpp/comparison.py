"""Measuring a model on llama.cpp and on ik_llama.cpp: how fast either is, and how far they are apart."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tanuki_cli.engines.llama_cpp.calibration import Bench, announced, calibrate, most_seconds, prepare
from tanuki_cli.engines.llama_cpp.ik import load_ik
from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan
from tanuki_cli.engines.llama_cpp.selection import Pair, explain, find_copy
from tanuki_cli.engines.llama_cpp.ties import as_array, stacked
from tanuki_cli.engines.llama_cpp.timing import Limits
from tanuki_cli.engines.llama_cpp.tuning import Record, Tuner
from tanuki_cli.engines.probabilities import Logits, divergences, normalized

_APART: Final = 1e6
"""The divergence of what is no number."""


def compare(plan: LoadPlan, tuner: Tuner, *, copies: Path | None) -> Pair | None:
    """Measure on both, and remember that; None where llama.cpp cannot load the model, or it is not to be
    measured now. ``plan`` is for it, on the CPU; ``copies`` is the folder of repacked weights.

    Each has the memory for itself. What ik_llama.cpp cannot run, and what Ctrl-C or the time kept from being
    measured, is remembered as unknown.
    """
    other, store = replace(plan, build=load_ik()), tuner.store
    key, other_key = plan.tuning_key(), other.tuning_key()  # of the file as it is before it is measured
    most_s = sum(most_seconds(each.build, again=tuner.again, compared=True) for each in (plan, other))
    with ExitStack() as measuring:
        if not measuring.enter_context(tuner.measuring()):
            return None
        try:
            with _loaded(plan, tuner) as bench:
                limits = measuring.enter_context(announced(tuner, most_s))
                llama, expected = _measured(bench, limits.within(most_s / 2))
        except NativeError:
            return None
        store.save(key, llama)
        ik = Record(tuning=other.default_tuning())
        store.save(other_key, ik)  # what ends the process now is not tried again at every start
        if llama.tuning.measured and other.build.admits(plan.facts):
            with suppress(NativeError, DecodeAborted):
                with _loaded(other, tuner, should_stop=limits.should_stop) as bench:
                    ik, found = _measured(bench, limits)
                if ik.tuning.measured:
                    ik = replace(ik, divergence=max(divergence(expected[0], rows) for rows in found))
                store.save(other_key, ik)
    pair = Pair.of(llama, ik, copy=find_copy(plan.model.path, other.build.version, copies))
    tuner.report(explain(pair))
    return pair


@contextmanager
def _loaded(
    plan: LoadPlan, tuner: Tuner, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Bench]:
    """What :func:`prepare` makes of the weights. Raises what that does."""
    before = time.perf_counter()
    with closing(plan.load_weights(should_stop=should_stop)) as weights:
        load_s = time.perf_counter() - before
        yield prepare(plan, weights, load_s=load_s, tuner=tuner, should_stop=should_stop)


def _measured(bench: Bench, limits: Limits) -> tuple[Record, list[Logits]]:
    """The record, and what each kind of weights gave for the same ids."""
    seen: list[Logits] = []
    n_vocab = bench.plan.facts.n_vocab
    return calibrate(bench, limits, look=lambda context: seen.append(_rows(context, n_vocab))), seen


def _rows(context: Context, n_vocab: int) -> Logits:
    """The outputs of the newest computation, of shape (outputs, vocabulary)."""
    return stacked([as_array(context.logits(-1 - index), n_vocab) for index in range(context.max_outputs)])


def divergence(expected: Logits, found: Logits) -> float:
    """How far the probabilities of two stacks of logits are apart on average, after Kullback and Leibler, in
    nats."""
    log_probs, probs = normalized(expected)
    mean = float(divergences(log_probs, probs, normalized(found)[0]).mean())
    return max(0.0, mean) if mean < _APART else _APART  # NaN is not below it

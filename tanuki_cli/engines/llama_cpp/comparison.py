"""Measuring a model on llama.cpp and on ik_llama.cpp: how fast either is, and how far they are apart."""

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.calibration import Bench, measure, most_seconds
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, without_vocabulary
from tanuki_cli.engines.llama_cpp.ik import load_ik
from tanuki_cli.engines.llama_cpp.native import Context, Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan
from tanuki_cli.engines.llama_cpp.selection import Pair, explain
from tanuki_cli.engines.llama_cpp.ties import as_array, stacked
from tanuki_cli.engines.llama_cpp.tuning import Record, Tuner, default_tuning
from tanuki_cli.engines.probabilities import Logits, divergences, normalized

_APART: Final = 1e6
"""The divergence of what is no number, or was not computed."""


def compare(path: Path, facts: ModelFacts, plan: LoadPlan, tuner: Tuner) -> Pair | None:
    """Measure on both, and remember that; None where llama.cpp cannot load the model. ``plan`` is for it, on
    the CPU.

    Each has the memory for itself. What ik_llama.cpp cannot run, and what Ctrl-C kept from being measured, is
    remembered as unknown.
    """
    announce = tuner.announce
    assert announce is not None
    other = replace(plan, build=load_ik())
    most_s = sum(most_seconds(each.build, again=tuner.again, compared=True) for each in (plan, other))
    try:
        llama, expected = _measured(path, facts, plan, replace(tuner, announce=lambda _s: announce(most_s)))
    except NativeError:
        return None
    tuner.store.save(plan.tuning_key(path, gpu_layers=0), llama)
    ik, key = Record(tuning=default_tuning(facts, gpu=False)), other.tuning_key(path, gpu_layers=0)
    tuner.store.save(key, ik)  # what ends the process now is not tried again at every start
    if llama.tuning.measured and other.build.admits(facts):
        with suppress(NativeError):
            ik, found = _measured(path, facts, other, replace(tuner, announce=None))
            if ik.tuning.measured:
                ik = replace(ik, divergence=_most_apart(expected, found))
            tuner.store.save(key, ik)
    pair = Pair(llama=llama, ik=ik)
    tuner.report(explain(pair))
    return pair


def _measured(path: Path, facts: ModelFacts, plan: LoadPlan, tuner: Tuner) -> tuple[Record, list[Logits]]:
    """The record, and what each kind of weights gave for the same ids."""
    seen: list[Logits] = []
    before = time.perf_counter()
    weights = Model(path, gpu_layers=0, repack=False, metadata=without_vocabulary(facts), build=plan.build)
    with closing(weights):
        load_s = time.perf_counter() - before
        bench = Bench(
            weights=weights, load_s=load_s, path=path, facts=facts, plan=plan, gpu_layers=0, text=tuner.text()
        )
        return measure(bench, tuner, look=lambda context: seen.append(_rows(context, facts.n_vocab))), seen


def _rows(context: Context, n_vocab: int) -> Logits:
    """The outputs of the newest computation, of shape (outputs, vocabulary)."""
    return stacked([as_array(context.logits(-1 - index), n_vocab) for index in range(context.max_outputs)])


def _most_apart(expected: Sequence[Logits], found: Sequence[Logits]) -> float:
    """Of all kinds of weights the divergence from the first ``expected``."""
    if not (expected and found):
        return _APART
    return max(divergence(expected[0], rows) for rows in found)


def divergence(expected: Logits, found: Logits) -> float:
    """How far the probabilities of two stacks of logits are apart on average, after Kullback and Leibler, in
    nats."""
    log_probs, probs = normalized(expected)
    mean = float(divergences(log_probs, probs, normalized(found)[0]).mean())
    return max(0.0, mean) if mean < _APART else _APART  # NaN is not below it

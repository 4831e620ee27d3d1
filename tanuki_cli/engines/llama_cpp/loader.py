"""Loading a GGUF model on llama.cpp: read it, plan it, check that it fits, load it.

Weights are used as they lie in the file, mapped and not repacked, which halves the memory and loads at
once (figures: scripts/bench_peers.py), unless calibration.py measured otherwise.

On a CPU flash attention is off where it can be: llama.cpp's adds up in float16 for one token and
otherwise for many, so that logits are off by 1e-2 instead of 1e-3 (against float64, practice model, 400
tokens) and depend on how the tokens were batched. Reuse, resume and speculation must not show.
"""

import os
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.base import EngineInfo
from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP, Build
from tanuki_cli.engines.llama_cpp.drafting import DraftPolicy
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, model_facts
from tanuki_cli.engines.llama_cpp.gguf import damaged, read_gguf
from tanuki_cli.engines.llama_cpp.ik_package import PACKAGE
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, state_key
from tanuki_cli.engines.llama_cpp.log import log
from tanuki_cli.engines.llama_cpp.memory import all_layers, forecast
from tanuki_cli.engines.llama_cpp.model import LlamaCppModel
from tanuki_cli.engines.llama_cpp.native import Context, Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan, check_memory, plan_load
from tanuki_cli.engines.llama_cpp.selection import explain, find_copy, find_pair
from tanuki_cli.engines.llama_cpp.tuning import N_BATCH, SMALL_MODEL_BYTES, Record, Tuner, Tuning
from tanuki_cli.errors import DamagedModelError, EngineError, brief
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.machine.packages import missing
from tanuki_cli.settings.values import Settings

__all__ = ["LlamaCppModel", "load_llama_cpp"]


def load_llama_cpp(
    model: LocalModel,
    settings: Settings,
    *,
    debug: bool,
    facts: ModelFacts | None = None,
    kv_store: KvStore | None = None,
    head_ids: Sequence[int] = (),
    first_tokens: int | None = None,
    tuner: Tuner | None = None,
    copies: Path | None = None,
) -> LlamaCppModel:
    """Load the GGUF file of ``model``; pass ``facts`` if its header was read already.

    With ``kv_store``, KV caches of earlier conversations are taken from there and kept there;
    ``head_ids`` is what every prompt begins with. ``first_tokens`` are the prompt and the answer that
    are known to come, often the only ones: the KV cache is made no longer than that at first, since
    making it takes time and memory. ``tuner`` knows, or measures, how the model runs best; ``copies`` is
    the folder of repacked weights, which are used where they are there for the library.

    Raises EngineError for a file that is damaged or of another kind, for a context the model was not
    made for, and where memory will not do, before it is taken. ``debug`` sends llama.cpp's log to
    the logger ``tanuki_cli.llama_cpp``.
    """
    if facts is None:
        header = read_gguf(model.path)
        model, facts = replace(model, path=header.path), model_facts(header)
    llama_native.start(debug=debug)
    plan = plan_load(model, facts, settings, build=_named_build(settings), first_tokens=first_tokens)
    check_memory(plan)
    measured = tuner if facts.file_bytes >= SMALL_MODEL_BYTES else None
    before = kv_store and state_key(model.path)
    choice = _choose(plan, measured, copies) if settings.engine == "auto" else None
    choice = choice or _remembered(plan, measured, copies)
    if tuner is not None:
        log.debug(f"{choice.plan.build.name}, loaded for: {tuner.use}")
    loaded = _load(choice, settings, measured)
    # Of a file that was changed while it was loaded nobody knows which it is that is in memory.
    with suppress(OSError):
        if kv_store is not None and state_key(model.path) == before:
            key = state_key(model.path, choice.plan.build.version, plan.kv_type, loaded.info.device)
            loaded.use_store(kv_store, key, head_ids=head_ids)
    return loaded


class _Choice(Struct, frozen=True, kw_only=True):
    """What is loaded: the model as ``plan`` says, or a ``copy`` of it with its weights repacked; run as
    ``tuning`` says, the defaults where ``tuner`` is to measure that first. ``notes`` are for the user."""

    plan: LoadPlan
    tuning: Tuning
    copy: Path | None = None
    tuner: Tuner | None = None
    notes: tuple[str, ...] = ()


def _choose(plan: LoadPlan, tuner: Tuner | None, copies: Path | None) -> _Choice | None:
    """``plan``, which is for llama.cpp, or the same for ik_llama.cpp; None where they cannot be compared.

    They are measured here, where that has to be done and ``tuner`` may.
    """
    if tuner is None or missing([PACKAGE]) or plan.gpus or plan.kv_type != "f16":
        return None
    try:
        notes: tuple[str, ...] = ()
        pair = None if tuner.again else find_pair(tuner.store, plan.model.path, copies=copies)
        if pair is None and tuner.announce is not None:
            from tanuki_cli.engines.llama_cpp.comparison import compare  # once per model

            pair = compare(plan, tuner, copies=copies)
            if pair is not None and pair.gain(tuner.use) is None and not tuner.again:
                notes = (explain(pair),)
        if pair is None:
            return None
        if not pair.prefers_ik(tuner.use):
            return _Choice(plan=plan, tuning=_tuning(pair.llama, plan, tuner), notes=notes)
        from tanuki_cli.engines.llama_cpp.ik import load_ik  # loads another library

        plan = replace(plan, build=load_ik())
        return _Choice(plan=plan, tuning=_tuning(pair.ik, plan, tuner), copy=pair.copy)
    except EngineError:  # it is not for this machine; doctor says so
        return None


def _remembered(plan: LoadPlan, tuner: Tuner | None, copies: Path | None = None) -> _Choice:
    """``plan`` as this model runs best on this machine, as far as that is known."""
    build = plan.build
    copy = find_copy(plan.model.path, build.version, copies) if build.repacks_in_place else None
    default = _Choice(plan=plan, tuning=plan.default_tuning(), copy=copy)
    if tuner is None:
        return default
    record = tuner.find(plan.tuning_key())
    if record is not None:
        return replace(default, tuning=_tuning(record.with_copy() if copy else record, plan, tuner))
    return default if tuner.announce is None else replace(default, copy=None, tuner=tuner)


def _tuning(record: Record, plan: LoadPlan, tuner: Tuner) -> Tuning:
    """How to run it after ``record``: there may be less memory today than there was when that was made."""
    found = record.tuning_for(tuner.use)
    needs = forecast(
        plan.facts,
        context_length=plan.context_length,
        kv_type=plan.kv_type,
        n_batch=found.n_batch,
        gpu_layers=plan.gpu_layers,
        repack=found.repack and not plan.build.repacks_in_place,
    )
    fits = needs.host.total <= inspect_machine(os.environ).available_ram_bytes
    return found if fits else replace(record.tuning, repack=False, n_batch=N_BATCH)


def _named_build(settings: Settings) -> Build:
    if settings.engine != "ik":
        return LLAMA_CPP
    from tanuki_cli.engines.llama_cpp.ik import load_ik  # loads another library

    return load_ik()


def _load(choice: _Choice, settings: Settings, tuner: Tuner | None) -> LlamaCppModel:
    """Load with the planned layers on the GPU, and with fewer if its memory does not do after all."""
    plan, wanted = choice.plan, choice.plan.gpu_layers
    attempts = sorted({wanted, wanted * 3 // 4, wanted // 2, wanted // 4, 0}, reverse=True)
    for layers in attempts:
        if layers < wanted:  # what the GPU does not hold, the main memory must
            plan = replace(plan, gpu_layers=layers)
            check_memory(plan)
            choice = _remembered(plan, tuner)  # there are no copies for GPUs
        try:
            weights, context, tuning = _load_native(choice, settings)
        except NativeError as exc:
            if layers == 0 or not _is_about_memory(exc):
                raise _translated(plan.model, exc) from exc
            continue
        notes = [*plan.notes, *choice.notes]
        if layers < wanted:
            notes.append(_fewer_layers(layers, wanted))
        if choice.tuner is not None and not tuning.measured:
            notes.append(_not_measured(plan.model))
        return LlamaCppModel(
            weights,
            context,
            info=EngineInfo(model=plan.model.name, engine=plan.build.name, device=_device(plan)),
            facts=plan.facts,
            context_length=plan.context_length,
            longest_params=plan.context_params(tuning, length=plan.context_length),
            policy=DraftPolicy(costs=dict(tuning.draft_costs)),
            notes=tuple(notes),
            speculative=settings.speculation,
            gpu_layers=layers,
        )
    raise AssertionError("the attempt without a GPU returns or raises")


def _fewer_layers(layers: int, wanted: int) -> str:
    return _("Only {layers} of {wanted} layers fitted the GPU's memory; the CPU computes the others.").format(
        layers=layers, wanted=wanted
    )


def _not_measured(model: LocalModel) -> str:
    return _("It was not measured how this model runs fastest here. To do that: {command}").format(
        command=f"tanuki bench --tune -m {shlex.quote(model.name)}"
    )


def _load_native(choice: _Choice, settings: Settings) -> tuple[Model, Context, Tuning]:
    plan, tuning, before = choice.plan, choice.tuning, time.perf_counter()
    weights = _load_weights(choice)
    try:
        if choice.tuner is not None:
            from tanuki_cli.engines.llama_cpp.calibration import measure  # once per model

            load_s = time.perf_counter() - before
            # Repacked weights are used from the next load on.
            tuning = measure(plan, weights, load_s=load_s, tuner=choice.tuner).tuning
        tuning = tuning.with_threads(settings.threads)
        return weights, Context(weights, plan.context_params(tuning, length=plan.cache_length)), tuning
    except BaseException:  # Ctrl-C, too: what is loaded next needs the memory
        weights.close()
        raise


def _load_weights(choice: _Choice) -> Model:
    """Those of the copy, where there is one that can be loaded."""
    if choice.copy is not None:
        with suppress(NativeError):
            return choice.plan.load_weights(copy=choice.copy)
    return choice.plan.load_weights(repack=choice.tuning.repack)


def _device(plan: LoadPlan) -> str:
    if plan.gpu_layers == 0:
        return "CPU"
    return f"{', '.join(gpu.name for gpu in plan.gpus)} ({plan.gpu_layers}/{all_layers(plan.facts)})"


def _is_about_memory(error: NativeError) -> bool:
    text = str(error).lower()
    return "alloc" in text or "out of memory" in text


def _translated(model: LocalModel, error: NativeError) -> EngineError:
    text = str(error)
    if "not within the file bounds" in text or "corrupted or incomplete" in text:
        return damaged(model.path, _("the weights end too early"))
    if _is_about_memory(error):
        return EngineError(
            _("There is not enough memory to load {model}: {reason}").format(
                model=model.name, reason=brief(text)
            ),
            hint=_("Use a shorter --context-length, or a smaller variant: tanuki models"),
        )
    return DamagedModelError(
        _("llama.cpp cannot load {path}: {reason}").format(path=model.path, reason=brief(text))
    )

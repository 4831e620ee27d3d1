"""Loading a GGUF model on llama.cpp: read it, plan it, check that it fits, load it.

Weights are used as they lie in the file, mapped and not repacked, which halves the memory and loads at
once (figures: scripts/bench_peers.py), unless calibration.py measured otherwise.

On a CPU flash attention is off where it can be: llama.cpp's adds up in float16 for one token and
otherwise for many, so that logits are off by 1e-2 instead of 1e-3 (against float64, practice model, 400
tokens) and depend on how the tokens were batched. Reuse, resume and speculation must not show.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.base import EngineInfo, Use
from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP, Build
from tanuki_cli.engines.llama_cpp.drafting import DraftPolicy
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, model_facts, without_vocabulary
from tanuki_cli.engines.llama_cpp.gguf import damaged, read_gguf
from tanuki_cli.engines.llama_cpp.ik_package import PACKAGE
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, state_key
from tanuki_cli.engines.llama_cpp.memory import all_layers, forecast
from tanuki_cli.engines.llama_cpp.model import LlamaCppModel
from tanuki_cli.engines.llama_cpp.native import Context, Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan, check_memory, plan_load
from tanuki_cli.engines.llama_cpp.selection import find_pair
from tanuki_cli.engines.llama_cpp.tuning import SMALL_MODEL_BYTES, Tuner, Tuning, default_tuning
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
    use: Use = "chat",
    tuner: Tuner | None = None,
    copies: Path | None = None,
) -> LlamaCppModel:
    """Load the GGUF file of ``model``; pass ``facts`` if its header was read already.

    With ``kv_store``, KV caches of earlier conversations are taken from there and kept there;
    ``head_ids`` is what every prompt begins with. ``first_tokens`` are the prompt and the answer that
    are known to come, often the only ones: the KV cache is made no longer than that at first, since
    making it takes time and memory. ``tuner`` knows, or measures, how the model runs best for ``use``;
    ``copies`` is the folder of repacked weights, which are used where they are there for the library.

    Raises EngineError for a file that is damaged or of another kind, for a context the model was not
    made for, and where memory will not do, before it is taken. ``debug`` sends llama.cpp's log to
    the logger ``tanuki_cli.llama_cpp``.
    """
    if facts is None:
        header = read_gguf(model.path)
        model, facts = replace(model, path=header.path), model_facts(header)
    llama_native.start(debug=debug)
    plan = plan_load(settings, facts, build=_named_build(settings), first_tokens=first_tokens)
    check_memory(model, facts, plan)
    if facts.file_bytes < SMALL_MODEL_BYTES:
        tuner = None
    if settings.engine == "auto":
        plan, tuner = _choose_plan(model.path, facts, plan, tuner, use, copies)
    copy = _find_copy(model.path, plan.build, copies)
    loaded = _load(model, settings, facts, plan, tuner, use, copy)
    if kv_store is not None:
        key = state_key(model.path, plan.build.version, plan.kv_type, loaded.info.device)
        loaded.use_store(kv_store, key, head_ids=head_ids)
    return loaded


def _choose_plan(
    path: Path, facts: ModelFacts, plan: LoadPlan, tuner: Tuner | None, use: Use, copies: Path | None
) -> tuple[LoadPlan, Tuner | None]:
    """``plan``, which is for llama.cpp, or the same for ik_llama.cpp; and what is still to be measured.

    They are compared here, where that has to be done and ``tuner`` may.
    """
    if tuner is None or missing([PACKAGE]) or plan.gpus or plan.kv_type != "f16":
        return plan, tuner
    try:
        pair = None if tuner.again else find_pair(tuner.store, path, copies=copies)
        if pair is None and tuner.announce is not None:
            from tanuki_cli.engines.llama_cpp.comparison import compare  # once per model

            pair = compare(path, facts, plan, tuner)
            if pair is not None:
                tuner = replace(tuner, announce=None, again=False)
        if pair is None or not pair.prefers_ik(use):
            return plan, tuner
        from tanuki_cli.engines.llama_cpp.ik import load_ik  # loads another library

        return replace(plan, build=load_ik()), tuner
    except EngineError:  # it is not for this machine; doctor says so
        return plan, tuner


def _find_copy(path: Path, build: Build, copies: Path | None) -> Path | None:
    if copies is None or not build.repacks_in_place:
        return None
    from tanuki_cli.engines.llama_cpp.repacked import RepackedStore  # for one library only

    return RepackedStore(copies).find(path, build.version)


def _named_build(settings: Settings) -> Build:
    if settings.engine != "ik":
        return LLAMA_CPP
    from tanuki_cli.engines.llama_cpp.ik import load_ik  # loads another library

    return load_ik()


def _load(
    model: LocalModel,
    settings: Settings,
    facts: ModelFacts,
    plan: LoadPlan,
    tuner: Tuner | None,
    use: Use,
    copy: Path | None,
) -> LlamaCppModel:
    """Load with the planned layers on the GPU, and with fewer if its memory does not do after all."""
    wanted = plan.gpu_layers
    attempts = sorted({wanted, wanted * 3 // 4, wanted // 2, wanted // 4, 0}, reverse=True)
    for layers in attempts:
        if layers < wanted:  # what the GPU does not hold, the main memory must
            check_memory(model, facts, replace(plan, gpu_layers=layers))
        try:
            weights, context, tuning = _load_native(
                model.path, settings, facts, plan, layers, tuner, use, copy
            )
        except NativeError as exc:
            if layers == 0 or not _is_about_memory(exc):
                raise _translated(model, exc) from exc
            continue
        notes = (_fewer_layers(layers, wanted),) if layers < wanted else ()
        info = EngineInfo(model=model.name, engine=plan.build.name, device=_device(facts, plan, layers))
        return LlamaCppModel(
            weights,
            context,
            info=info,
            facts=facts,
            context_length=plan.context_length,
            longest_params=plan.context_params(tuning, gpu_layers=layers, length=plan.context_length),
            policy=DraftPolicy(costs=dict(tuning.draft_costs)),
            notes=(*plan.notes, *notes),
            speculative=settings.speculation,
            gpu_layers=layers,
        )
    raise AssertionError("the attempt without a GPU returns or raises")


def _fewer_layers(layers: int, wanted: int) -> str:
    return _("Only {layers} of {wanted} layers fitted the GPU's memory; the CPU computes the others.").format(
        layers=layers, wanted=wanted
    )


def _load_native(
    path: Path,
    settings: Settings,
    facts: ModelFacts,
    plan: LoadPlan,
    gpu_layers: int,
    tuner: Tuner | None,
    use: Use,
    copy: Path | None,
) -> tuple[Model, Context, Tuning]:
    tuning = _remembered(path, facts, plan, gpu_layers, tuner, use, has_copy=copy is not None)
    before = time.perf_counter()
    weights = _load_weights(path, facts, plan, gpu_layers, tuning, copy)
    try:
        if tuning is None:
            assert tuner is not None
            load_s = time.perf_counter() - before
            tuning = _measured(path, facts, plan, gpu_layers, weights, load_s, tuner)
        tuning = tuning.with_threads(settings.threads)
        params = plan.context_params(tuning, gpu_layers=gpu_layers, length=plan.cache_length)
        return weights, Context(weights, params), tuning
    except BaseException:  # Ctrl-C, too: what is loaded next needs the memory
        weights.close()
        raise


def _load_weights(
    path: Path, facts: ModelFacts, plan: LoadPlan, gpu_layers: int, tuning: Tuning | None, copy: Path | None
) -> Model:
    """Those of ``copy``, where there is one that can be loaded; not to be measured, though."""
    load = partial(Model, gpu_layers=gpu_layers, metadata=without_vocabulary(facts), build=plan.build)
    if copy is not None and tuning is not None:
        with suppress(NativeError):
            return load(copy, repack=False)
    return load(path, repack=tuning is not None and tuning.repack)


def _remembered(
    path: Path,
    facts: ModelFacts,
    plan: LoadPlan,
    gpu_layers: int,
    tuner: Tuner | None,
    use: Use,
    *,
    has_copy: bool,
) -> Tuning | None:
    """How this model runs best on this machine; None where that is still to be measured."""
    default = default_tuning(facts, gpu=gpu_layers > 0)
    if tuner is None:
        return default
    record = None if tuner.again else tuner.store.find(plan.tuning_key(path, gpu_layers=gpu_layers))
    if record is None:
        return default if tuner.announce is None else None
    found = (record.with_copy() if has_copy else record).tuning_for(use)
    twice = forecast(
        facts,
        context_length=plan.context_length,
        kv_type=plan.kv_type,
        n_batch=found.n_batch,
        gpu_layers=gpu_layers,
        repack=found.repack and not plan.build.repacks_in_place,
    )
    # There may be less memory today than there was when it was measured.
    fits = twice.host.total <= inspect_machine(os.environ).available_ram_bytes
    return found if fits else replace(record.tuning, repack=False, n_batch=default.n_batch)


def _measured(
    path: Path,
    facts: ModelFacts,
    plan: LoadPlan,
    gpu_layers: int,
    weights: Model,
    load_s: float,
    tuner: Tuner,
) -> Tuning:
    """Measure, and remember what was found; after a Ctrl-C the defaults, so that nobody waits twice.

    Repacked weights are used from the next load on.
    """
    from tanuki_cli.engines.llama_cpp.calibration import Bench, measure  # once per model

    bench = Bench(
        weights=weights,
        load_s=load_s,
        path=path,
        facts=facts,
        plan=plan,
        gpu_layers=gpu_layers,
        text=tuner.text(),
    )
    record = measure(bench, tuner)
    tuner.store.save(plan.tuning_key(path, gpu_layers=gpu_layers), record)
    return record.tuning


def _device(facts: ModelFacts, plan: LoadPlan, layers: int) -> str:
    if layers == 0:
        return "CPU"
    return f"{', '.join(gpu.name for gpu in plan.gpus)} ({layers}/{all_layers(facts)})"


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

"""How a GGUF model is going to be loaded: context, KV cache, layers on the GPU; and whether it fits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from msgspec import Struct

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP, Build, ContextParams
from tanuki_cli.engines.llama_cpp.drafting import GPU_COSTS, MAX_DRAFT
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, without_vocabulary
from tanuki_cli.engines.llama_cpp.memory import (
    all_layers,
    forecast,
    gpu_layers_that_fit,
    uses_flash_attention,
)
from tanuki_cli.engines.llama_cpp.native import Model
from tanuki_cli.engines.llama_cpp.tuning import N_BATCH, Tuning, default_tuning, tuning_key
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.machine.hardware import format_bytes, inspect_machine
from tanuki_cli.machine.memory import KvType
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH, Settings

_KV_ALIGNMENT: Final = 256
"""llama.cpp rounds the KV cache up to this many tokens."""


class LoadPlan(Struct, frozen=True, kw_only=True):
    """How ``model`` will be loaded; ``gpu_layers`` as llama.cpp counts them.

    The KV cache is made for ``cache_length`` tokens at first, at most ``context_length``.
    """

    model: LocalModel
    facts: ModelFacts
    context_length: int
    cache_length: int
    kv_type: KvType
    gpu_layers: int
    gpus: tuple[Gpu, ...]
    build: Build = LLAMA_CPP
    notes: tuple[str, ...] = ()

    def default_tuning(self) -> Tuning:
        """How to run it where nothing was measured."""
        return default_tuning(self.facts, costs=GPU_COSTS if self.gpu_layers else self.build.cpu_costs)

    def tuning_key(self) -> str:
        """Names what is remembered of running it. Raises OSError if the file is gone."""
        gpus = (gpu.name for gpu in self.gpus)
        return tuning_key(self.model.path, self.build.version, self.kv_type, str(self.gpu_layers), *gpus)

    def load_weights(
        self,
        *,
        copy: Path | None = None,
        repack: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Model:
        """The weights of its file, or of a ``copy`` of it. Raises NativeError, also where ``should_stop``,
        which is asked meanwhile, says so."""
        return Model(
            copy or self.model.path,
            gpu_layers=self.gpu_layers,
            repack=repack,
            metadata=without_vocabulary(self.facts),
            should_stop=should_stop,
            build=self.build,
        )

    def context_params(self, tuning: Tuning, *, length: int) -> ContextParams:
        """A context of ``length`` tokens."""
        n_ctx = -(-length // _KV_ALIGNMENT) * _KV_ALIGNMENT
        return ContextParams(
            n_ctx=n_ctx,
            n_batch=min(tuning.n_batch, n_ctx),
            n_threads=tuning.threads,
            n_threads_batch=tuning.prompt_threads,
            kv_type=self.kv_type,
            max_outputs=MAX_DRAFT + 1,
            flash_attention=uses_flash_attention(self.kv_type, gpu_layers=self.gpu_layers),
        )


def plan_load(
    model: LocalModel,
    facts: ModelFacts,
    settings: Settings,
    *,
    build: Build = LLAMA_CPP,
    first_tokens: int | None = None,
) -> LoadPlan:
    """Plan for what the settings ask and the GPUs have free; ``first_tokens`` as in load_llama_cpp().

    Raises EngineError for a context that the model was not made for, and for what ``build`` cannot do.
    """
    if not build.admits(facts):
        raise EngineError(
            _("{engine} does not run models of this shape.").format(engine=build.name),
            hint=f"--engine {LLAMA_CPP.name}",
        )
    context_length = _context_length(settings, facts)
    kv_type = _kv_type(settings, facts, build)
    gpus = tuple(llama_native.gpus()) if build.on_gpus else ()
    notes: tuple[str, ...] = ()
    if not gpus:
        layers = 0
        if settings.gpu_layers and build.on_gpus:
            notes = (_("This build of llama.cpp can use no GPU here; see: tanuki doctor"),)
        elif settings.gpu_layers:
            notes = (_("{engine} is used on the CPU only.").format(engine=build.name),)
    elif settings.gpu_layers is not None:
        layers = min(settings.gpu_layers, all_layers(facts))
    else:
        layers = gpu_layers_that_fit(
            facts,
            free_bytes=[gpu.free_bytes for gpu in gpus],
            context_length=context_length,
            kv_type=kv_type,
            n_batch=N_BATCH,
        )
    return LoadPlan(
        model=model,
        facts=facts,
        context_length=context_length,
        cache_length=min(first_tokens or context_length, context_length),
        kv_type=kv_type,
        gpu_layers=layers,
        gpus=gpus,
        build=build,
        notes=notes,
    )


def check_memory(plan: LoadPlan) -> None:
    """Raises EngineError where the machine's memory will not do, with the cache at its longest."""
    needs = forecast(
        plan.facts,
        context_length=plan.context_length,
        kv_type=plan.kv_type,
        n_batch=N_BATCH,
        gpu_layers=plan.gpu_layers,
    )
    available = inspect_machine(os.environ).available_ram_bytes
    if needs.host.total > available:
        raise EngineError(
            _("{model} needs about {needed} of memory, and {available} is free.").format(
                model=plan.model.name,
                needed=format_bytes(needs.host.total),
                available=format_bytes(available),
            ),
            hint=_(
                "Close other programs, use a shorter --context-length, or a smaller variant: tanuki models"
            ),
        )


def _context_length(settings: Settings, facts: ModelFacts) -> int:
    if settings.context_length is None:
        return min(DEFAULT_CONTEXT_LENGTH, facts.n_ctx_train)
    if settings.context_length > facts.n_ctx_train:
        raise EngineError(
            _("A context of {wanted} tokens is more than this model was made for: {limit}.").format(
                wanted=settings.context_length, limit=facts.n_ctx_train
            ),
            hint=f"--context-length {facts.n_ctx_train}",
        )
    return settings.context_length


def _kv_type(settings: Settings, facts: ModelFacts, build: Build) -> KvType:
    """As set; but float32 weights, which are there to be exact, get a float32 cache where there is one.

    Its logits then differ from float64's by 1e-5 at most.
    """
    kv_type = cast("KvType", settings.kv_type)
    if kv_type not in build.kv_types:
        raise EngineError(
            _("{engine} has no KV cache of the kind {kind}.").format(engine=build.name, kind=kv_type),
            hint=f"--kv-type {build.kv_types[0]}",
        )
    return "f32" if facts.full_precision and kv_type == "f16" and "f32" in build.kv_types else kv_type

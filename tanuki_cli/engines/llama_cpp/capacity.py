"""How many sequences share one KV cache, and how long it is: what fits, and what pays."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.memory import forecast
from tanuki_cli.engines.llama_cpp.native import ContextParams
from tanuki_cli.engines.llama_cpp.parallel import SPARE_OUTPUTS
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import format_bytes, inspect_machine
from tanuki_cli.machine.memory import GPU_RESERVE_BYTES

MOST_PLACES: Final = 256
"""llama.cpp's own limit."""
_FEW: Final = 4
_MANY: Final = 16
_MANY_PAY: Final = 4.0
"""Single steps that a batch of sixteen may cost where sixteen places pay. On two cores it costs 7.8, and
four at once are already 1.4 times as fast as one: more of them only wait for each other."""
_CHUNK: Final = 32
"""Ids of prompts that a step takes beside answers, where many cost much."""
_SPARE_MEMORY: Final = 0.1
"""Share of the free memory that more than one sequence leaves to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """``places`` requests at a time in a context made with ``params``; ``chunk`` as in LlamaCppParallel."""

    places: int
    params: ContextParams
    chunk: int


def plan_capacity(
    facts: ModelFacts,
    one: ContextParams,
    *,
    wanted: int | None,
    gpu_layers: int,
    costs: Mapping[int, float],
) -> Capacity:
    """For ``wanted`` requests, or as many as pay, where ``one`` is the context of a single one.

    The cache has a whole context for each where memory allows, and never less than one in all. As many as
    pay are only as many as have half a context each. Raises EngineError where not even one fits.
    """
    cheap = costs.get(_MANY, _MANY) <= _MANY_PAY
    places = min(wanted or (_MANY if cheap else _FEW), MOST_PLACES)
    cells = _longest_that_fits(facts, one, places, gpu_layers)
    if wanted is None:
        places = max(1, min(places, 2 * cells // one.n_ctx))
    params = replace(
        one,
        n_ctx=cells,
        n_batch=max(one.n_batch, places),
        max_outputs=places + SPARE_OUTPUTS,
        n_sequences=places,
    )
    return Capacity(places=places, params=params, chunk=params.n_batch if cheap else _CHUNK)


def _longest_that_fits(facts: ModelFacts, one: ContextParams, places: int, gpu_layers: int) -> int:
    """Cells for ``places`` whole contexts, or so many whole and half ones as there is memory for."""
    available = inspect_machine(os.environ).available_ram_bytes
    on_gpus = sum(max(0, gpu.free_bytes - GPU_RESERVE_BYTES) for gpu in llama_native.gpus())
    alone = forecast(
        facts,
        context_length=one.n_ctx,
        kv_type=one.kv_type,
        n_batch=one.n_batch,
        gpu_layers=gpu_layers,
    )
    for halves in range(2 * places, 1, -1):
        cells = one.n_ctx * halves // 2
        needs = forecast(
            facts,
            context_length=cells,
            kv_type=one.kv_type,
            n_batch=max(one.n_batch, places),
            gpu_layers=gpu_layers,
        )
        share = 1.0 if halves == 2 else 1.0 - _SPARE_MEMORY
        more_on_gpu = needs.gpu_bytes - alone.gpu_bytes  # the context of one is still there
        if needs.host.total <= share * available and more_on_gpu <= on_gpus:
            return cells
    raise EngineError(
        _("There is not enough memory to answer several questions at once: {available} is free.").format(
            available=format_bytes(available)
        ),
        hint=_("Close other programs, or use a shorter --context-length."),
    )

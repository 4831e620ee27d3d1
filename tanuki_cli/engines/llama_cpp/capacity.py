"""How many sequences share one KV cache, and how long it is: what fits, and what pays."""

import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.engines.llama_cpp import native as llama_native
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.memory import forecast, kv_bytes_per_layer
from tanuki_cli.engines.llama_cpp.native import ContextParams
from tanuki_cli.engines.llama_cpp.parallel import SPARE_OUTPUTS
from tanuki_cli.engines.llama_cpp.places import Crowd
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.machine.memory import GPU_RESERVE_BYTES

MOST_PLACES: Final = 256
"""llama.cpp's own limit."""
_FEW: Final = 4
_MANY: Final = 16
_MANY_ARE_CHEAP: Final = 4.0
"""Single steps that a batch of sixteen may cost where sixteen places pay those who read along, too. On two
cores it costs 8 to 11: four at once are 1.4 times as fast as one, and more of them wait for each other."""
_MANY_PAY: Final = 12.0
"""The same where nobody reads along: with 8 to 11, sixteen at once are 1.3 times as fast as four. Eight are
slower than four."""
_CHUNK: Final = 16
"""Ids of prompts that a step takes beside answers, where many cost much. In the time of single steps, 16 cost
4.7, 32 8.6, 64 14.5 and 256 53 (Tanuki-8B's layers, Q4_K_M, one thread, AVX2): answers wait half as long as
with 32, and a prompt takes 8 % longer."""
_MOST_SHARED: Final = 2048
"""In a cache that all share, more than a few begin at once only as long as they have fewer ids together:
for each a step looks at the places of all. With 16 + 16 ids each, sixteen answer 1.2 and 1.4 times as fast as
four (8B, two cores, rearranged weights); with four of its layers and one thread 1.25 times after 64 ids each,
0.96 times after 256."""
_SPARE_MEMORY: Final = 0.1
"""Share of the free memory that more than one place leaves to others."""


class Capacity(Struct, frozen=True, kw_only=True):
    """A context for several requests at a time, made with ``params``; ``chunk`` and ``crowd`` as in
    LlamaCppParallel."""

    params: ContextParams
    chunk: int | None
    crowd: Crowd | None


def plan_capacity(
    facts: ModelFacts,
    one: ContextParams,
    *,
    wanted: int | None,
    interactive: bool,
    gpu_layers: int,
    costs: Mapping[int, float],
    has_streams: bool,
) -> Capacity:
    """For ``wanted`` requests at a time, or as many as fit and pay; ``one`` is the context of a single one,
    and each gets such a one. ``interactive``: somebody reads each answer as it comes.

    ``costs`` is the time of a batch in single steps, by its size. ``has_streams`` as in Build.
    Raises EngineError where so many do not fit.
    """
    cost_of_many = costs.get(_MANY, _MANY)
    cheap = cost_of_many <= _MANY_ARE_CHEAP
    most = _most_that_fit(facts, one, gpu_layers) if has_streams else _most_that_share(facts, one)
    if wanted is not None and wanted > most:
        raise EngineError(
            _("There is not enough memory to answer {places} questions at once.").format(places=wanted),
            hint=f"--parallel {most}",
        )
    pay = cheap or (not interactive and cost_of_many <= _MANY_PAY and most >= _MANY)
    many = pay and (has_streams or not interactive)
    places = wanted or min(most, _MANY if many else _FEW)
    params = replace(
        one,
        n_ctx=places * one.n_ctx,
        n_batch=max(one.n_batch, places),
        max_outputs=places + SPARE_OUTPUTS,
        n_sequences=places,
    )
    chunk = None
    if interactive:
        chunk = params.n_batch if cheap else _CHUNK
    crowd = None
    if many and wanted is None and not has_streams:
        crowd = Crowd(few=_FEW, most_ids=_MOST_SHARED)
    return Capacity(params=params, chunk=chunk, crowd=crowd)


def _most_that_fit(facts: ModelFacts, one: ContextParams, gpu_layers: int) -> int:
    """How many contexts like ``one``, which is there already, fit the memory; at least one."""
    needs = forecast(
        facts,
        context_length=one.n_ctx,
        kv_type=one.kv_type,
        n_batch=one.n_batch,
        gpu_layers=gpu_layers,
    )
    available = inspect_machine(os.environ).available_ram_bytes * (1.0 - _SPARE_MEMORY)
    most = MOST_PLACES
    if needs.host.kv_cache:
        most = min(most, 1 + int((available - needs.host.total) / needs.host.kv_cache))
    if on_gpu := max(0, gpu_layers - 1):
        per_place = on_gpu * kv_bytes_per_layer(facts, context_length=one.n_ctx, kv_type=one.kv_type)
        free = sum(max(0, gpu.free_bytes - GPU_RESERVE_BYTES) for gpu in llama_native.gpus())
        most = min(most, 1 + free // per_place)
    return max(1, most)


def _most_that_share(facts: ModelFacts, one: ContextParams) -> int:
    """The same for one cache that all share: what is computed for each, too, is as long as all of it."""
    available = inspect_machine(os.environ).available_ram_bytes * (1.0 - _SPARE_MEMORY)

    def fits(places: int) -> bool:
        length = places * one.n_ctx
        return (
            forecast(facts, context_length=length, kv_type=one.kv_type, n_batch=one.n_batch).host.total
            <= available
        )

    return max(filter(fits, range(1, MOST_PLACES + 1)), default=1)

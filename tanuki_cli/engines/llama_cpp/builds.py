"""The libraries that a GGUF file is computed with: their functions, and what else differs between them."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.bindings import VERSION, native
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.llama_h import Kernels
from tanuki_cli.machine.memory import KvType

KV_KINDS: Final[Mapping[KvType, int]] = {"f32": 0, "f16": 1, "q8_0": 8}
"""What ggml numbers the types of a KV cache."""


class ContextParams(Struct, frozen=True, kw_only=True):
    """Lengths are tokens. ``n_batch`` is the most that one decode takes, ``max_outputs`` the most
    positions of it whose logits are kept. The cache has ``n_ctx`` places for ``n_sequences``, an equal share
    for each."""

    n_ctx: int
    n_batch: int
    n_threads: int
    n_threads_batch: int
    kv_type: KvType = "f16"
    flash_attention: bool = True
    max_outputs: int = 1
    n_sequences: int = 1


class Build(Struct, frozen=True, kw_only=True):
    """A library: ``functions`` load and compute, ``model_fields`` (of whether to repack) and
    ``context_fields`` name what is set in its structures. ``kv_types`` are the caches that it can be used
    with. ``on_gpus`` says whether it may be used there. ``has_streams``: the cache of each sequence is kept
    apart, in memory and in the files of states; else they share one, where a copy takes no memory, what is
    computed for one looks at the places of all, and its numbers depend on what is there. ``close_gaps`` (of a
    context) moves together what is in a shared one, before something is computed; False if that failed.
    ``repacks_in_place`` where repacked weights are no second copy. ``cpu_costs`` is the time of a batch in
    single steps, by its size, where it was not measured. ``admits`` says which of the models that llama.cpp
    runs it runs, too."""

    name: str
    version: str
    functions: Kernels
    model_fields: Callable[[bool], Mapping[str, object]]
    context_fields: Callable[[ContextParams], Mapping[str, object]]
    kv_types: tuple[KvType, ...]
    on_gpus: bool
    has_streams: bool
    close_gaps: Callable[[int], bool]
    repacks_in_place: bool
    cpu_costs: Mapping[int, float]
    admits: Callable[[ModelFacts], bool]


def _model_fields(repack: bool) -> Mapping[str, object]:
    return {"use_extra_bufts": repack}


def _context_fields(params: ContextParams) -> Mapping[str, object]:
    return {
        "n_outputs_max": params.max_outputs,
        "n_seq_max": params.n_sequences,
        "kv_unified": False,
        "flash_attn_type": int(params.flash_attention),
        "no_perf": True,
    }


LLAMA_CPP: Final = Build(
    name="llama.cpp",
    version=VERSION,
    functions=native,
    model_fields=_model_fields,
    context_fields=_context_fields,
    kv_types=tuple(KV_KINDS),
    on_gpus=True,
    has_streams=True,
    close_gaps=lambda _ctx: True,
    repacks_in_place=False,
    cpu_costs=CPU_COSTS,
    admits=lambda _facts: True,
)

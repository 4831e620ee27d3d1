"""Which variant suits a machine, and why."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from tanuki_cli.catalog.types import Family, Variant
from tanuki_cli.catalog.variants import TANUKI_8B, VARIANTS
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import (
    Engines,
    KvType,
    Machine,
    MemoryEstimate,
    estimate_memory,
    format_bytes,
)

Place = Literal["gpu", "cpu"]

# What a GPU's driver and libraries take beside the model.
_GPU_CONTEXT_BYTES: Final = 400_000_000
# What torch and transformers take beside the model, as the engine itself reckons.
_TORCH_BYTES: Final = 600_000_000
_TORCH_GPU_BYTES: Final = 1_000_000_000
_FULL_PRECISION_VRAM: Final = 23_000_000_000  # what a 24 GB card reports as free
_GPU_ORDER: Final = ("full", "q8_0", "gptq-8bit", "q6_k", "q5_k_m", "q5_k_s", "awq", "gptq-4bit", "q4_k_m")
# Below four bits the K quants are the faster ones on a CPU.
_CPU_ORDER: Final = ("q4_k_m", "q4_k_s", "q3_k_m", "q3_k_s", "q2_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Where a variant would run. ``place`` None: it fits nowhere; ``engine`` None: nothing runs it.

    ``need_bytes`` is the forecast peak, ``free_bytes`` what is free at the best place for it.
    """

    engine: str | None
    place: Place | None
    need_bytes: int
    free_bytes: int

    @property
    def runs(self) -> bool:
        """There is an engine, and the memory suffices."""
        return self.engine is not None and self.place is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """``variant`` None stands for the practice model. ``reason`` is a sentence in the user's language."""

    variant: Variant | None
    fit: Fit | None
    reason: str


def estimate_variant(
    variant: Variant, *, context_length: int, kv_type: KvType = "f16", weights_bytes: int | None = None
) -> MemoryEstimate:
    """Forecast the memory of a variant; ``weights_bytes`` where the real size is known."""
    shape = variant.family.shape
    return estimate_memory(
        weights_bytes=weights_bytes or variant.approximate_bytes,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        head_dim=shape.head_dim,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        context_length=min(context_length, shape.max_context_length),
        kv_type=kv_type if variant.format == "gguf" else "f16",
    )


def fit(
    variant: Variant,
    machine: Machine,
    engines: Engines,
    *,
    context_length: int,
    kv_type: KvType = "f16",
    weights_bytes: int | None = None,
) -> Fit:
    """Where ``variant`` would run on ``machine``: wholly on the GPU, else on the CPU, else nowhere."""
    estimate = estimate_variant(
        variant, context_length=context_length, kv_type=kv_type, weights_bytes=weights_bytes
    )
    engine = _engine(variant, engines)
    on_gpu, on_cpu = _needs(variant, estimate, gpus=len(machine.gpus))
    if variant.family.cuda_only and variant.format == "safetensors":
        vram = sum(gpu.free_bytes for gpu in machine.gpus if not gpu.unified)
        place: Place | None = "gpu" if on_gpu <= vram else None
        return Fit(engine=engine, place=place, need_bytes=on_gpu, free_bytes=vram)
    gpu_usable = bool(machine.gpus) and (engine != "llama.cpp" or engines.llama_cpp_gpu)
    if gpu_usable and on_gpu <= machine.free_vram_bytes:
        return Fit(engine=engine, place="gpu", need_bytes=on_gpu, free_bytes=machine.free_vram_bytes)
    return Fit(
        engine=engine,
        place="cpu" if on_cpu <= machine.available_ram_bytes else None,
        need_bytes=on_cpu,
        free_bytes=machine.available_ram_bytes,
    )


def _needs(variant: Variant, estimate: MemoryEstimate, *, gpus: int) -> tuple[int, int]:
    """Bytes that ``variant`` takes of the memory of all ``gpus``, and of the main memory, where it runs
    there; a driver's share is taken on every GPU."""
    on_gpu, gpus = estimate.total - estimate.overhead, max(gpus, 1)
    if variant.format == "gguf":
        return on_gpu + gpus * _GPU_CONTEXT_BYTES, estimate.total
    # No CPU is fast with packed 8-bit weights: they are unpacked to 16 bits.
    unpacked = estimate.weights if variant.tag == "gptq-8bit" else 0
    return on_gpu + gpus * _TORCH_GPU_BYTES, estimate.total + _TORCH_BYTES + unpacked


def _engine(variant: Variant, engines: Engines) -> str | None:
    """The installed engine that runs ``variant``, by its name."""
    if variant.refused:
        return None
    if variant.format == "gguf":
        return "llama.cpp" if engines.llama_cpp else None
    usable = engines.transformers and (variant.quantization is None or engines.quantized)
    return "transformers" if usable else None


def recommend(
    machine: Machine,
    engines: Engines,
    *,
    context_length: int,
    kv_type: KvType = "f16",
    family: Family = TANUKI_8B,
) -> Recommendation:
    """The variant to download for ``machine``: the best that fits its GPU, else a quick one for its CPU."""
    fits = {
        variant.tag: (variant, fit(variant, machine, engines, context_length=context_length, kv_type=kv_type))
        for variant in VARIANTS
        if variant.family is family
    }
    for tag in _GPU_ORDER:
        variant, place = fits[tag]
        if place.runs and place.place == "gpu" and _full_precision_suits(variant, machine):
            full, in_full = fits[_GPU_ORDER[0]]
            more_exact = in_full.place == "gpu" and not in_full.runs and _full_precision_suits(full, machine)
            reason = _gpu_reason(place, more_exact=full if more_exact else None)
            return Recommendation(variant=variant, fit=place, reason=reason)
    for tag in _CPU_ORDER:
        variant, place = fits[tag]
        if place.runs and place.place == "cpu":
            reason = _cpu_reason(place, best=tag == _CPU_ORDER[0])
            if machine.gpus and engines.llama_cpp_gpu:
                reason += _(" As many of its layers as fit run on the GPU.")
            elif machine.gpus:
                reason += _(" Nothing that is installed can use the GPU for it; see: tanuki doctor")
            return Recommendation(variant=variant, fit=place, reason=reason)
    if family.cuda_only:
        candidates = [place for variant, place in fits.values() if not variant.refused]
        reason = _no_cuda_reason(family, min(candidates, key=lambda place: place.need_bytes))
    else:
        reason = _no_reason(family, machine, engines)
    return Recommendation(variant=None, fit=None, reason=reason)


def _no_cuda_reason(family: Family, smallest: Fit) -> str:
    """Why not even the ``smallest`` variant runs on the NVIDIA GPUs here."""
    if smallest.free_bytes == 0:
        return _("No variant of {family} can run here: it needs NVIDIA GPUs, and there is none.").format(
            family=family.title
        )
    if smallest.place is not None:
        return _(
            "No variant of {family} can run here: its engine is not installed; see: tanuki models"
        ).format(family=family.title)
    return _(
        "No variant of {family} can run here: the smallest takes about {need} of the memory of NVIDIA GPUs, "
        "and {free} is free."
    ).format(
        family=family.title,
        need=format_bytes(smallest.need_bytes),
        free=format_bytes(smallest.free_bytes),
    )


def _no_reason(family: Family, machine: Machine, engines: Engines) -> str:
    if not engines.llama_cpp:
        return _("No variant of {family} can run here: llama.cpp is not installed.").format(
            family=family.title
        )
    return _(
        "No variant of {family} can run here with {free} of free memory; the practice model always runs."
    ).format(family=family.title, free=format_bytes(machine.available_ram_bytes))


def _full_precision_suits(variant: Variant, machine: Machine) -> bool:
    return variant.tag != "full" or machine.free_vram_bytes >= _FULL_PRECISION_VRAM


def _gpu_reason(place: Fit, *, more_exact: Variant | None) -> str:
    sizes = {"free": format_bytes(place.free_bytes), "need": format_bytes(place.need_bytes)}
    if more_exact is None:
        return _(
            "It is the most exact one that fits the {free} of free GPU memory; it takes about {need}."
        ).format(**sizes)
    return _(
        "It takes about {need} of the {free} of free GPU memory. {name} would fit too and be more exact, "
        "but its engine is not installed; see: tanuki models"
    ).format(name=more_exact.name, **sizes)


def _cpu_reason(place: Fit, *, best: bool) -> str:
    sentence = (
        _("On a CPU it balances quality and speed best; it takes about {need} of the {free} of free memory.")
        if best
        else _("It is the best that fits the {free} of free memory; it takes about {need}.")
    )
    return sentence.format(free=format_bytes(place.free_bytes), need=format_bytes(place.need_bytes))


def best_installed(
    installed: Collection[Variant], machine: Machine, engines: Engines, *, context_length: int
) -> Variant | None:
    """The installed variant that suits ``machine`` best; None if no engine runs any of them.

    One that fits beats one that does not, the GPU beats the CPU; then the order of the recommendations
    holds, and among the rest the larger file. What needs code of its own comes last.
    """
    places = {variant: fit(variant, machine, engines, context_length=context_length) for variant in installed}
    usable = [variant for variant, place in places.items() if place.engine is not None]

    def rank(variant: Variant) -> tuple[bool, int, int, int]:
        place, own_code = places[variant].place, variant.family.cuda_only
        if place is None:
            return (own_code, 2, 0, variant.approximate_bytes)
        order = _GPU_ORDER if place == "gpu" else _CPU_ORDER
        position = order.index(variant.tag) if variant.tag in order else len(order)
        return (own_code, 0 if place == "gpu" else 1, position, -variant.approximate_bytes)

    return min(usable, key=rank, default=None)

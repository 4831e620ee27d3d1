"""Which variant suits a machine, and why."""

from collections.abc import Collection
from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.catalog.engines import Engines, EngineSummary, MemoryPlan, engine_for
from tanuki_cli.catalog.types import Family, Variant
from tanuki_cli.catalog.variants import TANUKI_8B, VARIANTS
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine, format_bytes

Place = Literal["gpu", "cpu"]

_FULL_PRECISION_VRAM: Final = 23_000_000_000  # what a 24 GB card reports as free
_GPU_ORDER: Final = ("full", "q8_0", "gptq-8bit", "q6_k", "q5_k_m", "q5_k_s", "awq", "gptq-4bit", "q4_k_m")
# Below four bits the K quants are the faster ones on a CPU.
_CPU_ORDER: Final = ("q4_k_m", "q4_k_s", "q3_k_m", "q3_k_s", "q2_k")


class Fit(Struct, frozen=True, kw_only=True):
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


class Recommendation(Struct, frozen=True, kw_only=True):
    """``variant`` None stands for the practice model. ``reason`` is a sentence in the user's language."""

    variant: Variant | None
    fit: Fit | None
    reason: str


def fit(
    variant: Variant,
    machine: Machine,
    engines: Engines,
    plan: MemoryPlan,
    *,
    weights_bytes: int | None = None,
) -> Fit:
    """Where ``variant`` would run on ``machine``: wholly on the GPU, else on the CPU, else nowhere.

    ``weights_bytes`` where the real size is known.
    """
    engine = engine_for(variant, engines)
    name = engine.name if engine.runs(variant) else None
    needs = engine.needs(variant, plan, gpus=len(machine.gpus), weights_bytes=weights_bytes)
    if variant.family.cuda_only and variant.format == "safetensors":
        vram = sum(gpu.free_bytes for gpu in machine.gpus if not gpu.unified)
        place: Place | None = "gpu" if needs.on_gpu <= vram else None
        return Fit(engine=name, place=place, need_bytes=needs.on_gpu, free_bytes=vram)
    # An engine that is still to be installed is counted as one that is built for the GPU.
    built_for_gpu = engine.can_use_gpu or name is None
    gpu_usable = bool(machine.gpus) and built_for_gpu and plan.allows_gpu_only(variant)
    if gpu_usable and needs.on_gpu <= machine.free_vram_bytes:
        return Fit(engine=name, place="gpu", need_bytes=needs.on_gpu, free_bytes=machine.free_vram_bytes)
    return Fit(
        engine=name,
        place="cpu" if needs.on_cpu <= machine.available_ram_bytes else None,
        need_bytes=needs.on_cpu,
        free_bytes=machine.available_ram_bytes,
    )


def recommend(
    machine: Machine,
    engines: Engines,
    plan: MemoryPlan,
    *,
    family: Family = TANUKI_8B,
) -> Recommendation:
    """The variant to download for ``machine``: the best that fits its GPU, else a quick one for its CPU."""
    fits = {
        variant.tag: (variant, fit(variant, machine, engines, plan))
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
            if not machine.gpus or plan.gpu_layers is not None:
                pass  # there is nothing to use, or it is settled how much of it
            elif engine_for(variant, engines).can_use_gpu:
                reason += _(" As many of its layers as fit run on the GPU.")
            else:
                reason += _(" Nothing that is installed can use the GPU for it; see: tanuki doctor")
            return Recommendation(variant=variant, fit=place, reason=reason)
    if family.cuda_only:
        candidates = [place for variant, place in fits.values() if not variant.refused]
        reason = _no_cuda_reason(family, min(candidates, key=lambda place: place.need_bytes))
    else:
        reason = _no_reason(family, machine, engine_for(fits[_CPU_ORDER[0]][0], engines))
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


def _no_reason(family: Family, machine: Machine, on_cpu: EngineSummary) -> str:
    if not on_cpu.installed:
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
    installed: Collection[Variant], machine: Machine, engines: Engines, plan: MemoryPlan
) -> Variant | None:
    """The installed variant that suits ``machine`` best; None if no engine runs any of them.

    One that fits beats one that does not, the GPU beats the CPU; then the order of the recommendations
    holds, and among the rest the larger file. What needs code of its own comes last.
    """
    places = {variant: fit(variant, machine, engines, plan) for variant in installed}
    usable = [variant for variant, place in places.items() if place.engine is not None]

    def rank(variant: Variant) -> tuple[bool, int, int, int]:
        place, own_code = places[variant].place, variant.family.cuda_only
        if place is None:
            return (own_code, 2, 0, variant.approximate_bytes)
        order = _GPU_ORDER if place == "gpu" else _CPU_ORDER
        position = order.index(variant.tag) if variant.tag in order else len(order)
        return (own_code, 0 if place == "gpu" else 1, position, -variant.approximate_bytes)

    return min(usable, key=rank, default=None)

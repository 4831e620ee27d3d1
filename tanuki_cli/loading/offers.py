"""What could be downloaded: the model that suits this machine, what it would take, and why it may not run."""

import sys
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from tanuki_cli.catalog import TANUKI_8B, Family, Variant
from tanuki_cli.catalog.engines import MemoryPlan, engine_for
from tanuki_cli.catalog.recommendation import best_installed, fit, recommend
from tanuki_cli.engines.installed import installed_engines, practice_command
from tanuki_cli.errors import ModelError
from tanuki_cli.hub import Hub, InstalledModel
from tanuki_cli.i18n import _
from tanuki_cli.loading.asker import NotInstalled, Offer
from tanuki_cli.machine.bandwidth import memory_bandwidth
from tanuki_cli.machine.hardware import Machine, format_bytes, free_disk_bytes, inspect_machine
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH, Settings

_SHARE_OF_BANDWIDTH: Final = 0.65
"""4.5 tokens per second of 4.5 GB were measured where memory gives 31.7 GB/s."""


def obstacle(variant: Variant, machine: Machine, plan: MemoryPlan) -> str:
    """Why ``variant`` would not run on ``machine`` as it is; empty if it would."""
    place = fit(variant, machine, installed_engines(), plan)
    if place.place is None and place.free_bytes == 0:  # it runs on no CPU
        return _("It needs an NVIDIA GPU with about {need} of memory, and there is none here.").format(
            need=format_bytes(place.need_bytes)
        )
    if place.place is None:
        return _("It needs about {need}, but only {free} of memory are free.").format(
            need=format_bytes(place.need_bytes), free=format_bytes(place.free_bytes)
        )
    return missing_engine(variant) if place.engine is None else ""


def lasting_obstacle(variant: Variant, machine: Machine, plan: MemoryPlan) -> str:
    """What no closing of programs mends: the engine is missing, or the GPU.

    A refused variant is told elsewhere.
    """
    if variant.refused:
        return ""
    free = machine if variant.family.cuda_only else replace(machine, available_ram_bytes=sys.maxsize)
    return obstacle(variant, free, plan)


def missing_engine(variant: Variant) -> str:
    """That nothing here runs ``variant`` yet, and the command that changes it."""
    command = engine_for(variant, installed_engines()).install_command(variant)
    return _("Its engine is not installed: {command}").format(command=command)


def _expected_speed(variant: Variant, machine: Machine, plan: MemoryPlan) -> float | None:
    """Tokens per second of an answer on the CPU, by its memory: every token reads all weights."""
    place = fit(variant, machine, installed_engines(), plan)
    if place.place != "cpu" or place.engine is None or variant.refused:
        return None
    return _SHARE_OF_BANDWIDTH * memory_bandwidth(machine.physical_cores) / variant.approximate_bytes


def make_offer(missing: NotInstalled, hub: Hub, *, settings: Settings, environ: Mapping[str, str]) -> Offer:
    """What the download of ``missing`` would mean."""
    reference = missing.reference
    machine = inspect_machine(environ)
    variant = reference if isinstance(reference, Variant) else None
    begun = hub.missing_bytes(reference)
    total = variant.approximate_bytes if variant else None
    plan = memory_plan(settings)
    return Offer(
        name=reference.name,
        reason=missing.reason,
        obstacle=obstacle(variant, machine, plan) if variant else "",
        lasting_obstacle=lasting_obstacle(variant, machine, plan) if variant else "",
        machine=machine,
        bytes_to_receive=total if begun is None else begun,
        begun=begun is not None,
        free_disk_bytes=free_disk_bytes(hub.cache.root),
        bytes_per_s=hub.last_speed,
        expected_tokens_per_s=_expected_speed(variant, machine, plan) if variant else None,
    )


def best_installed_or_recommended(
    hub: Hub, family: Family | None, *, settings: Settings, environ: Mapping[str, str]
) -> InstalledModel | NotInstalled:
    """The installed variant that suits this machine best, else the recommended one with the reason.

    ``family`` None counts everything that is installed. Raises ModelError if nothing can run here.
    """
    machine, engines = inspect_machine(environ), installed_engines()
    plan = memory_plan(settings)
    installed = {
        entry.reference: entry
        for entry in hub.installed()
        if isinstance(entry.reference, Variant) and family in (None, entry.reference.family)
    }
    if best := best_installed(list(installed), machine, engines, plan):
        return installed[best]
    choice = recommend(machine, engines, plan, family=family or TANUKI_8B)
    if choice.variant is not None:
        return NotInstalled(reference=choice.variant, reason=choice.reason)
    if family is not None and family.cuda_only:
        hint = _("Serve it with a vLLM built for it: tanuki chat -m http://host:8000/v1")
    else:
        hint = practice_command()
    raise ModelError(choice.reason, hint=hint)


def memory_plan(settings: Settings) -> MemoryPlan:
    """What ``settings`` mean for the memory of a model that is not opened yet."""
    return MemoryPlan(
        context_length=settings.context_length or DEFAULT_CONTEXT_LENGTH,
        kv_type="q8_0" if settings.kv_type == "q8_0" else "f16",
        gpu_layers=settings.gpu_layers,
    )

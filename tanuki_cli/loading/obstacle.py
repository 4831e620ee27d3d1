"""Why a model would not run here after its download, said before it."""

import sys
from dataclasses import replace

from tanuki_cli.catalog import MemoryPlan, Variant, engine_for, fit
from tanuki_cli.engines.installed import installed_engines
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine, format_bytes


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

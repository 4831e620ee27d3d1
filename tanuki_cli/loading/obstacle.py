"""Why a model would not run here after its download, said before it."""

import sys
from dataclasses import replace

from tanuki_cli.catalog import Variant, fit
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine, format_bytes, installed_engines
from tanuki_cli.machine.packages import LLAMA_CPP, install_extra, pip_install


def obstacle(variant: Variant, machine: Machine, *, context_length: int) -> str:
    """Why ``variant`` would not run on ``machine`` as it is; empty if it would."""
    place = fit(variant, machine, installed_engines(), context_length=context_length)
    if place.place is None and place.free_bytes == 0:  # it runs on no CPU
        return _("It needs an NVIDIA GPU with about {need} of memory, and there is none here.").format(
            need=format_bytes(place.need_bytes)
        )
    if place.place is None:
        return _("It needs about {need}, but only {free} of memory are free.").format(
            need=format_bytes(place.need_bytes), free=format_bytes(place.free_bytes)
        )
    return missing_engine(variant) if place.engine is None else ""


def lasting_obstacle(variant: Variant, machine: Machine, *, context_length: int) -> str:
    """What no closing of programs mends: the engine is missing, or the GPU.

    A refused variant is told elsewhere.
    """
    if variant.refused:
        return ""
    free = machine if variant.family.cuda_only else replace(machine, available_ram_bytes=sys.maxsize)
    return obstacle(variant, free, context_length=context_length)


def missing_engine(variant: Variant) -> str:
    """That nothing here runs ``variant`` yet, and the command that changes it."""
    if variant.format == "gguf":
        command = pip_install(LLAMA_CPP)
    else:
        command = install_extra("quantized" if variant.quantization else "transformers")
    return _("Its engine is not installed: {command}").format(command=command)

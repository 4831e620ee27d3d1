"""Why a model would not run here after its download, said before it."""

import sys
from dataclasses import replace

from tanuki_cli.catalog import Variant, fit
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import Machine, format_bytes, inspect_machine, installed_engines
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH
from tanuki_cli.terminal.model_table import missing_engine


def obstacle(variant: Variant, machine: Machine, context: CommandContext) -> str:
    """Why ``variant`` would not run on ``machine`` as it is; empty if it would."""
    length = context.settings.context_length or DEFAULT_CONTEXT_LENGTH
    place = fit(variant, machine, installed_engines(), context_length=length)
    if place.place is None and place.free_bytes == 0:  # it runs on no CPU
        return _("It needs an NVIDIA GPU with about {need} of memory, and there is none here.").format(
            need=format_bytes(place.need_bytes)
        )
    if place.place is None:
        return _("It needs about {need}, but only {free} of memory are free.").format(
            need=format_bytes(place.need_bytes), free=format_bytes(place.free_bytes)
        )
    return missing_engine(variant) if place.engine is None else ""


def note_obstacle(variant: Variant, context: CommandContext) -> None:
    """Tell before a download that nobody is asked about: the engine is missing, or the GPU.

    How much memory happens to be free now is no reason against it. A refused one is told elsewhere.
    """
    machine = inspect_machine(context.environ)
    free = machine if variant.family.cuda_only else replace(machine, available_ram_bytes=sys.maxsize)
    if not variant.refused and (reason := obstacle(variant, free, context)):
        context.console.note(reason, style="warning")

"""Copies of models with rearranged weights, for ``tanuki pull --repack`` and ``tanuki rm --repacked``."""

import shlex

from tanuki_cli.catalog import Downloadable, LocalModel, Target, Variant
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.engines.llama_cpp.ik_package import require_ik
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore, repacked_folder
from tanuki_cli.errors import InputError, ModelError
from tanuki_cli.i18n import _
from tanuki_cli.loading import Finder
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.terminal.asker import TerminalAsker


def require_repackable(reference: Downloadable) -> None:
    """Raise, before anything is downloaded, InputError for what is no GGUF, and EngineError without
    ik_llama.cpp."""
    require_ik()
    if isinstance(reference, Variant) and reference.format != "gguf":
        raise _for_gguf()


def keep_repacked(context: CommandContext, model: Target) -> None:
    """Make the copy of ``model``, showing how far it is. Raises InputError for another format."""
    if not isinstance(model, LocalModel) or model.format != "gguf":
        raise _for_gguf()
    # Loads ik_llama.cpp and rich: most who pull need neither.
    from tanuki_cli.engines.llama_cpp.repacking import make_copy
    from tanuki_cli.terminal.step_progress import StepProgress

    with StepProgress(context.console) as steps:
        copy = make_copy(_store(context), model.path, on_step=steps.update)
    context.console.note(
        _("{model} is also kept as ik_llama.cpp computes with it ({size}); --engine ik uses that.").format(
            model=model.name, size=format_bytes(copy.stat().st_size)
        ),
        style="success",
    )


def remove_repacked(context: CommandContext, name: str) -> None:
    """Remove the copy of the model ``name``, which stays itself. Raises ModelError where there is none."""
    asker = TerminalAsker(console=context.console, assume_yes=False)
    finder = Finder(context.settings, environ=context.environ, directories=context.directories, asker=asker)
    found = finder.look_up(name)
    freed = _store(context).remove(found.path) if isinstance(found, LocalModel) else 0
    if not freed:
        raise ModelError(
            _("There is no rearranged copy of {model}.").format(model=name),
            hint=f"tanuki pull --repack {shlex.quote(name)}",
        )
    context.console.note(
        _("The copy was removed; {size} are free again.").format(size=format_bytes(freed)), style="success"
    )


def remove_stale(context: CommandContext) -> int:
    """Remove the copies of models that are gone; the bytes that are free again."""
    return _store(context).remove_stale()


def _for_gguf() -> InputError:
    return InputError(_("--repack is for GGUF models."), hint="tanuki models")


def _store(context: CommandContext) -> RepackedStore:
    return RepackedStore(repacked_folder(context.directories.cache))

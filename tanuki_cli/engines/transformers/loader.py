"""Models in safetensors on transformers: whether and how they are loaded.

The model's own tokenizer class is never used: transformers 5 rebuilds another tokenizer from the same
file.
"""

from typing import Final

import torch

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.base import EngineInfo
from tanuki_cli.engines.consent import Consent, never
from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo, read_checkpoint
from tanuki_cli.engines.transformers.library import load_weights
from tanuki_cli.engines.transformers.model import TransformersModel
from tanuki_cli.engines.transformers.placement import Placement, place
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import usable_physical_cores
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH, Settings

__all__ = ["COMPILER", "ENGINE_NAME", "TransformersModel", "load_transformers", "require_compilable"]

ENGINE_NAME: Final = "transformers"
COMPILER: Final = "inductor"
"""torch's own compiler, what ``--compile`` uses."""


def load_transformers(
    model: LocalModel,
    settings: Settings,
    *,
    debug: bool,
    checkpoint: CheckpointInfo | None = None,
    consent: Consent = never,
    compile_backend: str | None = None,
) -> TransformersModel:
    """Load the checkpoint of ``model``; pass ``checkpoint`` if it was read already.

    ``consent`` is asked before the repository's own code is run. ``debug`` lets the libraries' messages
    through to stderr. ``compile_backend`` compiles with that backend of torch whatever the settings
    say. Raises EngineError for a checkpoint that cannot be used, for missing packages, for a context
    the model was not made for, and where memory will not do, before it is taken.
    """
    info = checkpoint or read_checkpoint(model.path)
    context_length = _context_length(settings, info)
    placement = place(info, settings, name=model.name, context_length=context_length)
    if settings.compile and compile_backend is None:
        require_compilable(info, placement, name=model.name)
        compile_backend = COMPILER
    torch.set_num_threads(settings.threads or usable_physical_cores())
    weights = load_weights(info, placement, model=model, consent=consent, debug=debug)
    loaded = TransformersModel(
        weights,
        info=EngineInfo(model=model.name, engine=ENGINE_NAME, device=placement.label),
        context_length=context_length,
        notes=_notes(settings, placement),
        compile_backend=compile_backend,
        custom_code=info.custom_code is not None,
    )
    if compile_backend is not None:
        loaded.warm_up()
    return loaded


def require_compilable(info: CheckpointInfo, placement: Placement, *, name: str) -> None:
    """Raise EngineError for what ``--compile`` is not for."""
    if placement.backend != "cuda":
        reason = _("only an NVIDIA GPU gains by it, and on a CPU Ctrl-C would have to wait for a whole step")
    elif placement.device_map == "auto":
        reason = _("it is spread over several GPUs")
    elif info.quantization is not None:
        reason = _("its weights are quantised")
    elif info.custom_code is not None:
        reason = _("it runs code of its own")
    else:
        return
    raise EngineError(
        _("{model} cannot be compiled: {reason}.").format(model=name, reason=reason),
        hint=_("Leave --compile out (as a setting: tanuki config unset compile)."),
    )


def _context_length(settings: Settings, info: CheckpointInfo) -> int:
    limit = info.max_position_embeddings
    if settings.context_length is None:
        return min(DEFAULT_CONTEXT_LENGTH, limit)
    if settings.context_length > limit:
        raise EngineError(
            _("A context of {wanted} tokens is more than this model was made for: {limit}.").format(
                wanted=settings.context_length, limit=limit
            ),
            hint=f"--context-length {limit}",
        )
    return settings.context_length


def _notes(settings: Settings, placement: Placement) -> tuple[str, ...]:
    notes = []
    if settings.gpu_layers and placement.backend == "cpu":
        notes.append(_("torch can use no GPU here; see: tanuki doctor"))
    if settings.kv_type != "f16":  # the default, for which nobody asked
        notes.append(
            _("Only llama.cpp has a KV cache in {wanted}; transformers keeps it in {dtype}.").format(
                wanted=settings.kv_type, dtype=placement.dtype
            )
        )
    return tuple(notes)

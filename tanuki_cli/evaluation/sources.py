"""Which model gave a result: its files by digest, its engine, where it runs."""

from collections.abc import Callable

from tanuki_cli.catalog import LocalModel
from tanuki_cli.errors import EngineError
from tanuki_cli.evaluation.provenance import DigestMemory, ModelSource, model_digest, model_files
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.loading import LoadedModel


def source_of(
    model: LoadedModel, memory: DigestMemory, *, progress: Callable[[int], None] = lambda count: None
) -> ModelSource:
    """What is written down of ``model``. Its files are read once for their digest, which is remembered.

    ``progress`` is told of the bytes as they are read. Raises EngineError if a file cannot be read.
    """
    info, target = model.engine.info, model.target
    local = target if isinstance(target, LocalModel) else None
    try:
        digest = model_digest(local.path, memory, progress=progress) if local else None
        size = sum(file.stat().st_size for file in model_files(local.path)) if local else None
    except OSError as exc:
        raise EngineError(
            _("The files of {model} cannot be read: {reason}").format(
                model=info.model, reason=os_reason(exc)
            ),
            hint="tanuki doctor",
        ) from exc
    return ModelSource(
        reference=model.reference,
        name=info.model,
        engine=info.engine,
        device=info.device,
        context_length=model.engine.context_length,
        sha256=digest,
        file_bytes=size,
        repository=local.repository if local else None,
        revision=local.revision if local else None,
    )

"""What is written down of a loaded model, with the digest of a large file shown being made."""

from typing import Final

from tanuki_cli.catalog import LocalModel
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.evaluation.provenance import DigestMemory, ModelSource
from tanuki_cli.evaluation.sources import source_of
from tanuki_cli.i18n import _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.terminal.step_progress import StepProgress

_LARGE_BYTES: Final = 1 << 30
"""From here on a digest takes seconds."""


def model_source(context: CommandContext, model: LoadedModel) -> ModelSource:
    """Where answers come from."""
    read = 0
    path = model.target.path if isinstance(model.target, LocalModel) else None
    total = path.stat().st_size if path and path.is_file() else 0
    with StepProgress(context.console) as progress:

        def count(size: int) -> None:
            nonlocal read
            read += size
            if total >= _LARGE_BYTES:
                progress.update(read >> 20, total >> 20, _("MiB of the model's file for its digest"))

        return source_of(model, DigestMemory(context.directories.cache / "digests.json"), progress=count)

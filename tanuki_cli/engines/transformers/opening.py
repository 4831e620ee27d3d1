"""A checkpoint in safetensors as an engine: its configuration, its tokenizer, and then its weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from tanuki_cli.catalog import LocalModel, Quantization
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo, read_checkpoint
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import QUANTIZED, TRANSFORMERS, install_extra, missing, pip_install
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer


def open_checkpoint(target: LocalModel, settings: Settings, options: OpenOptions) -> LocalEngine:
    """Load a checkpoint on transformers. Raises EngineError."""
    checkpoint = read_checkpoint(target.path)
    tokenizer = _tokenizer(target, checkpoint)
    verify_tokenizer(tokenizer)
    with _importing(checkpoint.quantization.method if checkpoint.quantization else None):
        from tanuki_cli.engines.transformers.loader import load_transformers
    model = load_transformers(
        target, settings, debug=options.debug, checkpoint=checkpoint, consent=options.consent
    )
    return LocalEngine(model, tokenizer, get_again=target.get_again)


def read_tokenizer(target: LocalModel) -> ChatTokenizer:
    """The exact tokenizer of a checkpoint, without its weights. Raises EngineError."""
    return _tokenizer(target, read_checkpoint(target.path))


def _tokenizer(target: LocalModel, checkpoint: CheckpointInfo) -> ChatTokenizer:
    return ChatTokenizer.from_file(
        target.tokenizer or target.path / "tokenizer.json",
        bos_id=checkpoint.bos_id,
        eos_id=checkpoint.eos_id,
        other_eos_ids=checkpoint.other_eos_ids,
        vocab_size=checkpoint.vocab_size,
    )


@contextmanager
def _importing(method: Quantization | None) -> Iterator[None]:
    """For the import of what runs safetensors, quantised by ``method``.

    Raises EngineError where a package is missing, with the line that installs all of them, or broken.
    """
    if method is None:
        if lacking := missing(TRANSFORMERS):
            raise EngineError(
                _("Models in safetensors need packages that are not installed: {packages}.").format(
                    packages=", ".join(lacking)
                ),
                hint=install_extra("transformers"),
            )
    elif lacking := missing((*TRANSFORMERS, *QUANTIZED[method])):
        raise EngineError(
            _("{method} models need packages that are not installed: {packages}.").format(
                method=method.upper(), packages=", ".join(lacking)
            ),
            hint=install_extra("quantized"),
        )
    try:
        yield
    # A library of torch's that is not there is an OSError, or an ImportError.
    except (ImportError, OSError) as exc:
        raise EngineError(
            _("torch or transformers cannot be loaded: {reason}").format(reason=exc),
            # Without what they depend on: gptqmodel needs its own versions of that.
            hint=pip_install("--force-reinstall", "--no-deps", "torch", "transformers"),
        ) from exc

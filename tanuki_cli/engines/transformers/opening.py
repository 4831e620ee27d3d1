"""A checkpoint in safetensors as an engine: its configuration, its tokenizer, and then its weights."""

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.requirements import importing_transformers
from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo, read_checkpoint
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer


def open_checkpoint(target: LocalModel, settings: Settings, options: OpenOptions) -> LocalEngine:
    """Load a checkpoint on transformers. Raises EngineError."""
    checkpoint = read_checkpoint(target.path)
    tokenizer = _tokenizer(target, checkpoint)
    verify_tokenizer(tokenizer)
    with importing_transformers(checkpoint.quantization.method if checkpoint.quantization else None):
        from tanuki_cli.engines.transformers.loader import load_transformers
    model = load_transformers(
        target, settings, debug=options.debug, checkpoint=checkpoint, consent=options.consent
    )
    return LocalEngine(model, tokenizer)


def read_tokenizer(target: LocalModel) -> ChatTokenizer:
    """The exact tokenizer of a checkpoint, without its weights. Raises EngineError."""
    return _tokenizer(target, read_checkpoint(target.path))


def _tokenizer(target: LocalModel, checkpoint: CheckpointInfo) -> ChatTokenizer:
    return ChatTokenizer.from_file(
        target.tokenizer or target.path / "tokenizer.json",
        bos_id=checkpoint.bos_id,
        eos_id=checkpoint.eos_id,
        vocab_size=checkpoint.vocab_size,
    )

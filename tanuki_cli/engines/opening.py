"""The engine for a model. Each is imported only when it is used: none of them is light."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tanuki_cli.catalog import LocalModel, RemoteModel, Target
from tanuki_cli.engines.base import Engine, OpenOptions
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer


def open_engine(target: Target, settings: Settings, options: OpenOptions | None = None) -> Engine:
    """Load ``target`` on the engine for its format. Raises EngineError, RemoteError or SettingsError."""
    options = options or OpenOptions()
    if isinstance(target, RemoteModel):
        from tanuki_cli.engines.remote.opening import open_server

        return open_server(target, settings, options)
    with _advice_for(target):
        if target.format == "gguf":
            from tanuki_cli.engines.llama_cpp.opening import open_gguf

            return open_gguf(target, settings, options)
        from tanuki_cli.engines.transformers.opening import open_checkpoint

        return open_checkpoint(target, settings, options)


def forget_prompts(cache_folder: Path) -> None:
    """Remove what was computed of prompts and kept for later processes, of all conversations: which of it
    belongs to which, only their models' tokenizers could tell. Raises OSError."""
    from tanuki_cli.engines.llama_cpp.kv_store import KvStore, kv_folder

    KvStore(kv_folder(cache_folder)).clear()


def read_tokenizer(target: LocalModel) -> ChatTokenizer:
    """The exact tokenizer of a model, without its weights. Raises EngineError."""
    with _advice_for(target):
        if target.format == "gguf":
            from tanuki_cli.engines.llama_cpp import opening as llama_cpp

            return llama_cpp.read_tokenizer(target)
        from tanuki_cli.engines.transformers import opening as transformers

        return transformers.read_tokenizer(target)


@contextmanager
def _advice_for(target: LocalModel) -> Iterator[None]:
    """Say for this very model how damaged files are got again."""
    try:
        yield
    except DamagedModelError as exc:
        exc.hint = exc.hint or target.get_again
        raise

"""A server as an engine: its key, the tokenizers that may be its own, and what it says of itself."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.remote.credentials import find_api_key
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer


def open_server(target: RemoteModel, settings: Settings, options: OpenOptions) -> RemoteEngine:
    """Ask the server what it is, and get ready to use it. Raises RemoteError, SettingsError."""
    return RemoteEngine(
        target,
        tokenizers=_read_tokenizers(options.served_tokenizers),
        api_key=find_api_key(target.name, environ=options.environ, key_file=options.key_file),
        context_length=settings.context_length,
    )


def _read_tokenizers(paths: Iterable[Path]) -> Iterator[ChatTokenizer]:
    for path in paths:
        tokenizer = ChatTokenizer.from_reference(path)
        verify_tokenizer(tokenizer)
        yield tokenizer

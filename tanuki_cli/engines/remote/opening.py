"""A server as an engine: its key, the tokenizers that may be its own, and what it says of itself."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.remote.credentials import find_api_key
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer


def open_server(target: RemoteModel, settings: Settings, options: OpenOptions) -> RemoteEngine:
    """Ask the server what it is, and get ready to use it. Raises RemoteError, SettingsError."""
    skipped: list[str] = []
    return RemoteEngine(
        target,
        tokenizers=_read_tokenizers(options.served_tokenizers, skipped),
        notes=skipped,
        api_key=find_api_key(
            target.name,
            environ=options.environ,
            key_file=options.key_file,
            named_by_user=options.named_by_user,
            remotes=[name for name, _url in settings.remotes],
        ),
        context_length=settings.context_length,
        tokenizer_command=options.tokenizer_command,
        fetch_tokenizer=lambda host: _read_tokenizers(_fetched(options, host), skipped),
    )


def _fetched(options: OpenOptions, host: str) -> Iterator[Path]:
    path = options.fetch_tokenizer(host) if options.fetch_tokenizer is not None else None
    if path is not None:
        yield path


def _read_tokenizers(paths: Iterable[Path], skipped: list[str]) -> Iterator[ChatTokenizer]:
    """Those that can be used; for each of the others a sentence is added to ``skipped``."""
    for path in paths:
        try:
            tokenizer = ChatTokenizer.from_reference(path)
            verify_tokenizer(tokenizer)
        except EngineError as exc:
            skipped.append(_("A tokenizer on this machine was left out. {reason}").format(reason=exc.message))
        else:
            yield tokenizer

"""The checks of ``tanuki doctor`` on the servers that the settings name."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tanuki_cli.catalog import RemoteModel, parse_reference
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.checking import Check
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.errors import TanukiError
from tanuki_cli.i18n import _


def check_remotes(context: CommandContext, tokenizers: Sequence[Path]) -> Iterator[Check]:
    """Whether each server answers, what it serves, and how; ``tokenizers`` as in OpenOptions."""
    remotes = context.settings.remotes
    for name, _url in remotes:
        title = f"remote:{name}"
        if context.settings.offline:
            yield Check(name=title, status="ok", detail=_("Not asked: offline."))
            continue
        try:
            model = parse_reference(name, remotes)
            assert isinstance(model, RemoteModel)
            yield Check(name=title, status="ok", detail=_ask(model, context, tokenizers))
        except TanukiError as exc:
            yield Check(name=title, status="warn", detail=exc.message, fix=exc.hint)


def _ask(model: RemoteModel, context: CommandContext, tokenizers: Sequence[Path]) -> str:
    """What the server says of itself. Raises RemoteError, SettingsError for a key that cannot be used."""
    options = OpenOptions(
        served_tokenizers=tokenizers, environ=context.environ, key_file=context.directories.key_file
    )
    engine = open_engine(model, context.settings, options)
    with closing(engine):
        info = engine.info
        detail = _("{engine} at {host} answers as {model}, with a context of {tokens} tokens.").format(
            engine=info.engine, host=info.device, model=info.model, tokens=engine.context_length
        )
        return " ".join([detail, *engine.notes])

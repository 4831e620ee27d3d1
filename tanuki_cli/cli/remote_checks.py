"""The checks of ``tanuki doctor`` on the servers that the settings name."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tanuki_cli.catalog import TANUKI_8B, RemoteModel, parse_reference
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.checking import Check
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.errors import TanukiError
from tanuki_cli.i18n import _


def check_remotes(context: CommandContext, tokenizer: Path | None) -> Iterator[Check]:
    """Whether each server answers, what it serves, and how; ``tokenizer`` is Tanuki's, if it is here."""
    remotes = context.settings.remotes
    for name, _url in remotes:
        title = f"remote:{name}"
        if context.settings.offline:
            yield Check(name=title, status="ok", detail=_("Not asked: offline."))
            continue
        try:
            model = parse_reference(name, remotes)
            assert isinstance(model, RemoteModel)
            yield Check(name=title, status="ok", detail=_ask(model, context, tokenizer))
        except TanukiError as exc:
            yield Check(name=title, status="warn", detail=exc.message, fix=exc.hint)


def _ask(model: RemoteModel, context: CommandContext, tokenizer: Path | None) -> str:
    """What the server says of itself. Raises RemoteError, SettingsError for a key that cannot be used."""
    options = OpenOptions(
        served_tokenizers=[path for path in (tokenizer, practice_model().tokenizer) if path],
        tokenizer_command="" if tokenizer else TANUKI_8B.tokenizer_command,
        environ=context.environ,
        key_file=context.directories.key_file,
    )
    engine = open_engine(model, context.settings, options)
    with closing(engine):
        info = engine.info
        detail = _("{engine} at {host} answers as {model}, with a context of {tokens} tokens.").format(
            engine=info.engine, host=info.device, model=info.model, tokens=engine.context_length
        )
        return " ".join([detail, *engine.notes])

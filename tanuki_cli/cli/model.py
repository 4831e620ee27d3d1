"""A model for a command: loaded with its options, asking at its terminal."""

from collections.abc import Callable, Sequence

from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.options import ChatOptions, LoadingOptions
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import Use
from tanuki_cli.errors import EngineError
from tanuki_cli.loading import Finder, LoadedModel, load_model
from tanuki_cli.terminal.asker import TerminalAsker


def open_model(
    context: CommandContext,
    options: LoadingOptions,
    *,
    use: Use,
    reference: str | None = None,
    first: Sequence[Message] = (),
    report_trial: Callable[[str], None] | None = None,
) -> LoadedModel:
    """The model ``reference`` (default: the settings'), asking at the terminal what has to be asked.

    The rest is as for :func:`~tanuki_cli.loading.load_model`.
    """
    default = context.settings.model
    if isinstance(options, ChatOptions) and context.settings.keep_alive != "0":
        from tanuki_cli.cli.warm import open_warm  # for those who have set that

        warm = open_warm(context, options, reference or default, _asker(context, options))
        if warm is not None:
            return warm

    def load() -> LoadedModel:
        return _load(context, options, reference, first=first, use=use, report_trial=report_trial)

    try:
        return load()
    except EngineError:
        from tanuki_cli.cli.warm import end_idle_model  # its memory may be what is missing

        if not end_idle_model(context):
            raise
    return load()


def _load(
    context: CommandContext,
    options: LoadingOptions,
    reference: str | None,
    *,
    first: Sequence[Message],
    use: Use,
    report_trial: Callable[[str], None] | None,
) -> LoadedModel:
    default = context.settings.model
    return load_model(
        reference or default,
        context.settings,
        _asker(context, options),
        environ=context.environ,
        directories=context.directories,
        first=first,
        use=use,
        report_trial=report_trial,
        debug=context.debug,
        # What a setting or an older conversation says was not said now, nor is it when it is loaded again.
        named_by_user=options.names("model") or reference not in (None, default),
    )


def open_finder(context: CommandContext, options: LoadingOptions) -> Finder:
    """What looks references up for this command."""
    return Finder(
        context.settings,
        environ=context.environ,
        directories=context.directories,
        asker=_asker(context, options),
    )


def _asker(context: CommandContext, options: LoadingOptions) -> TerminalAsker:
    return TerminalAsker(
        console=context.console, assume_yes=options.yes, trust_remote_code=options.trust_remote_code
    )

"""``tanuki serve``: a model for editors, web clients and other programs."""

import time
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Annotated, Final

import typer

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.options import ModelOptions, takes
from tanuki_cli.engines.base import Answerer
from tanuki_cli.errors import EngineError, InputError, InterruptedByUser
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel, Unattended, load_model
from tanuki_cli.options import LONGEST_S, fold, parse_duration, range_sentence
from tanuki_cli.server.access import ANY_ORIGIN, Access
from tanuki_cli.server.app import make_app
from tanuki_cli.server.engine_thread import EngineThread
from tanuki_cli.server.keys import VARIABLE, read_keys
from tanuki_cli.server.running import GRACE_S, Server, address_of, is_private, listen
from tanuki_cli.server.saving import Saver
from tanuki_cli.server.served import served
from tanuki_cli.settings.specs import find_spec

serve_app = typer.Typer(add_completion=False)

PORT: Final = 8264
MAX_PLACES: Final = 256
_HELP: Final = N_(
    """Serve a model to editors, web clients and other programs.

Examples:
  tanuki serve
  tanuki serve -m mame --port 9000
  tanuki serve --host 0.0.0.0 --api-key-file keys.txt

OpenAI's protocol, with exact tokens. Without a key only programs on this machine are answered."""
)


class ServeOptions(ModelOptions):
    """What only ``tanuki serve`` takes."""

    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help=N_("Where to listen; other addresses need a key."))
    ] = "127.0.0.1"
    port: Annotated[str, typer.Option(metavar="0-65535", help=N_("The port; 0 takes a free one."))] = str(
        PORT
    )
    parallel: Annotated[
        str | None,
        typer.Option(metavar="1-256", help=N_("Answers at a time; as many as fit and pay by default.")),
    ] = None
    keep_alive: Annotated[
        str,
        typer.Option(metavar="TIME", help=N_("Free the model after so long without a request: 30m, 2h.")),
    ] = "forever"
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=N_("Answer only those with a key of this file, one a line.")),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help=N_("A web page that may ask, https://… (repeatable).")),
    ] = None
    keep_chats: Annotated[
        bool, typer.Option("--save", help=N_("Keep the chats of clients in the history."))
    ] = False


@serve_app.command(help=_HELP)
@takes(ServeOptions)
def serve(ctx: typer.Context, options: ServeOptions) -> None:
    """Serve a model to editors, web clients and other programs."""
    context = prepare(ctx, options)
    places = None if options.parallel is None else _number(options.parallel, "--parallel", 1, MAX_PLACES)
    idle_s = _idle(options)
    access = _access(context, options)
    with closing(_listener(options, access)) as listener:
        loaded = open_model(context, options, use="many")
        model = served(loaded, context.settings.sampling, created=int(time.time()))

        def load_again() -> Answerer:
            again = load_model(
                loaded.reference,
                context.settings,
                Unattended(),
                environ=context.environ,
                directories=context.directories,
                use="many",
                debug=context.debug,
                named_by_user=options.names("model"),
            )
            return again.engine.answerer(places, interactive=True)

        engine = EngineThread(
            loaded.engine.answerer(places, interactive=True),
            load=load_again,
            idle_s=idle_s,
            on_end=lambda: server.stop(),
        )
        warn = context.console.warn
        saver = Saver(context.directories.history_file, model, warn=warn) if options.keep_chats else None
        server = Server(
            make_app(model, engine, access, saver=saver),
            on_ready=lambda: _say_ready(context, loaded, listener, engine),
            on_stop=lambda: _say_stopping(context),
            debug=context.debug,
        )
        try:
            server.run(sockets=[listener])
        finally:
            engine.close()  # a second signal leaves that to us
            if saver is not None:
                saver.close()
    if server.force_exit:
        raise InterruptedByUser(_("Interrupted."))
    if engine.broke_off:
        raise EngineError(_("The engine ended unexpectedly."), hint="tanuki doctor")


def _say_ready(context: CommandContext, loaded: LoadedModel, listener: socket, engine: EngineThread) -> None:
    """The line that programs wait for, on stdout; what people want to know beside it, on stderr."""
    info = loaded.engine.info
    context.console.write(f"{address_of(listener)}/v1 · {info.model} · {info.engine} · {info.device}\n")
    if loaded.practice:
        context.console.note(_("This is 豆だぬき, the practice model: it knows little."), style="practice")
    if not is_private(listener):
        context.console.note(_("Other machines can reach it, and need a key."))
    context.console.note(
        _("{count} answer(s) at a time. Settings for other programs: tanuki help serve").format(
            count=engine.places
        )
    )


def _say_stopping(context: CommandContext) -> None:
    if context.console.err_can_move_cursor:
        context.console.streams.stderr.write("\r")  # over the ^C that the terminal has shown
    context.console.note(
        _("Ending: running answers have {seconds} seconds. Ctrl-C again ends at once.").format(
            seconds=GRACE_S
        )
    )


def _listener(options: ServeOptions, access: Access) -> socket:
    """The socket, before anything is loaded. Raises InputError where others reach it without a key."""
    listener = listen(options.host, _number(options.port, "--port", 0, 65535))
    if not access.keys and not is_private(listener):
        listener.close()
        raise InputError(
            _("{host} can be reached from other machines, so a key is needed.").format(host=options.host),
            hint=_("tanuki serve --host {host} --api-key-file FILE, or export {variable}=…").format(
                host=options.host, variable=VARIABLE
            ),
        )
    return listener


def _access(context: CommandContext, options: ServeOptions) -> Access:
    origins = tuple(origin.rstrip("/") for origin in options.allow_origin or ())
    keys = read_keys(options.api_key_file, context.environ)
    if ANY_ORIGIN in origins and not keys:
        raise InputError(
            _("--allow-origin '*' lets every web page ask, so it needs a key."), hint="--api-key-file FILE"
        )
    return Access(keys=keys, origins=origins)


def _idle(options: ServeOptions) -> float | None:
    seconds = parse_duration(options.keep_alive)
    if seconds is None:
        spec = find_spec("keep_alive")
        raise InputError(
            range_sentence(spec, options.keep_alive, name="--keep-alive"), hint="--keep-alive 30m"
        )
    return None if seconds == LONGEST_S else seconds


def _number(text: str, name: str, least: int, most: int) -> int:
    try:
        number = int(fold(text))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise InputError(
            _("{name} must be a number from {least} to {most}.").format(name=name, least=least, most=most),
            hint=f"{name} {min(most, max(least, PORT if most > PORT else 4))}",
        )
    return number

"""The model that stays loaded between commands, as ``ask`` and ``chat`` use it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tanuki_cli.catalog import LocalModel
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.options import LoadingOptions
from tanuki_cli.loading import Asker, Finder, LoadedModel
from tanuki_cli.options import parse_duration
from tanuki_cli.server.warm import finding
from tanuki_cli.server.warm.engine import WarmEngine
from tanuki_cli.server.warm.place import Place, find_place

_ROOT: Final = str(Path(__file__).resolve().parent.parent.parent)


def open_warm(
    context: CommandContext, options: LoadingOptions, reference: str, asker: Asker
) -> LoadedModel | None:
    """The model ``reference`` in the background, which is started where need be.

    None where it is to be loaded here: for a server, where nothing may stay (--no-save), where code has to
    be consented to, and while another model in the background is in use. Raises what loading raises.
    """
    settings = context.settings
    keep_s = parse_duration(settings.keep_alive)
    place = warm_place(context)
    if not keep_s or place is None or not settings.save or context.debug or options.trust_remote_code:
        return None
    finder = Finder(settings, environ=context.environ, directories=context.directories, asker=asker)
    target = finder.find(reference)
    if not isinstance(target, LocalModel):
        return None
    wish = finding.Wish(
        place=place,
        reference=target.name if reference == "auto" else reference,
        target=target,
        settings=settings,
        environ=context.environ,
        keep_s=keep_s,
        command=_command(),
    )
    started = time.monotonic()
    try:
        engine = WarmEngine(target, lambda: finding.hold(wish), place.connect)
    except finding.Busy:
        return None
    for note in engine.notes:
        asker.note(note)
    return LoadedModel(
        engine=engine,
        reference=wish.reference,
        target=target,
        load_s=time.monotonic() - started,
        practice=target.practice,
    )


def end_idle_model(context: CommandContext) -> bool:
    """End a model in the background that nobody uses; whether there was one."""
    place = warm_place(context)
    there = place is not None and finding.ask(place, {"op": "status"}) is not None
    return there and place is not None and finding.stop(place, only_idle=True)


def end_model(context: CommandContext) -> None:
    """End the model in the background, whoever uses it."""
    place = warm_place(context)
    if place is not None:
        finding.stop(place)


def warm_place(context: CommandContext) -> Place | None:
    """Where the background process of this user is reached; None where there can be none."""
    return find_place(context.directories, context.environ)


def _command() -> Sequence[str]:
    """What starts a background process; not ``-m``, which would look into the working directory first."""
    start = (
        f"import sys; sys.path[:] = [*filter(None, sys.path), {_ROOT!r}]; "
        "from tanuki_cli.server.warm.keeper import main; main()"
    )
    return [sys.executable, "-c", start]

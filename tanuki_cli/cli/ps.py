"""``tanuki ps``: the model that ``ask`` and ``chat`` keep loaded."""

import time
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from tanuki_cli.cli.context import prepare
from tanuki_cli.cli.options import OutputOptions, takes
from tanuki_cli.cli.warm import warm_place
from tanuki_cli.i18n import N_, _
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.options import LONGEST_S
from tanuki_cli.server.warm import finding

ps_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """Show the model that is kept loaded in the background.

Examples:
  tanuki config set keep_alive 10m
  tanuki ask こんにちは
  tanuki ps"""
)
_SHOWN: Final = (
    "reference",
    "model",
    "engine",
    "device",
    "pid",
    "memory_bytes",
    "requests",
    "running",
    "ends_in_s",
)


@ps_app.command(help=_HELP)
@takes(OutputOptions)
def ps(
    ctx: typer.Context,
    options: OutputOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
) -> None:
    """Show the model that is kept loaded in the background."""
    context = prepare(ctx, options)
    place = warm_place(context)
    status = None if place is None else finding.ask(place, {"op": "status"})
    if as_json:
        context.console.write_json({"models": [] if status is None else [_as_json(status)]})
    elif status is None:
        context.console.note(_("No model is kept loaded. To keep one: tanuki config set keep_alive 10m"))
    else:
        for line in _lines(status):
            context.console.write(line + "\n")


def _as_json(status: dict[str, Any]) -> dict[str, Any]:
    since = datetime.fromtimestamp(status["since"]).astimezone().isoformat(timespec="seconds")
    return {**{name: status[name] for name in _SHOWN}, "since": since}


def _lines(status: dict[str, Any]) -> list[str]:
    ends = status["ends_in_s"]
    if ends is None:
        end = _("in use")
    elif ends > LONGEST_S / 2:
        end = _("stays until tanuki stop")
    else:
        end = _("ends in {time}").format(time=_time(ends))
    facts = [
        _("loaded {time} ago").format(time=_time(time.time() - status["since"])),
        format_bytes(status["memory_bytes"]),
        _("{count} request(s)").format(count=status["requests"]),
        end,
    ]
    return [f"{status['model']} · {status['engine']} · {status['device']}", f"  {' · '.join(facts)}"]


def _time(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"

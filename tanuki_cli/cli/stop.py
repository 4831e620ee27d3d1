"""``tanuki stop``: end the model that ``ask`` and ``chat`` keep loaded."""

from typing import Final

import typer

from tanuki_cli.cli.context import prepare
from tanuki_cli.cli.options import OutputOptions, takes
from tanuki_cli.cli.warm import warm_place
from tanuki_cli.i18n import N_, _
from tanuki_cli.server.warm import finding

stop_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """Free the model that is kept loaded in the background.

Examples:
  tanuki stop

An answer that is being written ends. The next ask or chat loads the model again."""
)


@stop_app.command(help=_HELP)
@takes(OutputOptions)
def stop(ctx: typer.Context, options: OutputOptions) -> None:
    """Free the model that is kept loaded in the background."""
    context = prepare(ctx, options)
    place = warm_place(context)
    status = None if place is None else finding.ask(place, {"op": "status"})
    if place is None or status is None:
        context.console.note(_("No model is kept loaded."))
        return
    finding.stop(place)
    context.console.note(_("{model} was freed.").format(model=status["model"]))

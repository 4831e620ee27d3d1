"""``tanuki history verify`` and ``recover``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tanuki_cli.cli import history_output as output
from tanuki_cli.cli.context import prepare
from tanuki_cli.cli.conversations import open_history
from tanuki_cli.cli.options import OutputOptions, takes
from tanuki_cli.errors import HistoryError
from tanuki_cli.history.recovery import recover as recover_history
from tanuki_cli.i18n import N_, _, plural
from tanuki_cli.text.sanitize import sanitize_line


@takes(OutputOptions)
def verify(ctx: typer.Context, options: OutputOptions) -> None:
    """Check the history, and name what cannot be read."""
    context = prepare(ctx, options)
    with open_history(context) as store:
        problems = store.verify()
        count = len(store.list())
    for problem in problems:
        context.console.write_text(sanitize_line(problem) + "\n")
    if problems:
        raise HistoryError(
            plural(
                len(problems),
                "The history is damaged in {count} place.",
                _("The history is damaged in {count} places."),
            ).format(count=len(problems)),
            hint=f"tanuki history recover {shlex.quote(str(store.path))}",
        )
    context.console.note(
        plural(
            count,
            "The history is in order: {count} conversation.",
            _("The history is in order: {count} conversations."),
        ).format(count=count),
        style="success",
    )


@takes(OutputOptions)
def recover(
    ctx: typer.Context,
    options: OutputOptions,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help=N_("The damaged file; by default the one set aside last.")),
    ] = None,
) -> None:
    """Save what can be read of a damaged history; the file is kept."""
    context = prepare(ctx, options)
    with open_history(context) as store:
        report = recover_history(store, file)
    found = report.recovered
    context.console.note(
        _("Read from {path}. Conversations: {conversations}; messages: {messages}.").format(
            path=found.path, conversations=len(found.conversations), messages=found.messages
        )
    )
    if found.unreadable or found.detached:
        context.console.warn(
            _(
                "Rows that cannot be read: {unreadable}; messages that lost the one before: {detached}."
            ).format(unreadable=found.unreadable, detached=found.detached)
        )
    context.console.note(output.import_sentence(report.imported))

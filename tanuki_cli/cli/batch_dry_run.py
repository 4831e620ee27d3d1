"""``tanuki batch --dry-run``: what it would take."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from tanuki_cli.batch.estimate import count_prompts, only, sample_keys
from tanuki_cli.batch.requests import Asking
from tanuki_cli.batch.rows import Row
from tanuki_cli.batch.run import BatchRun
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.i18n import _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.terminal.batch_progress import BatchProgress
from tanuki_cli.terminal.download import format_time
from tanuki_cli.text.counts import about

_TRIED: Final = 3


def dry_run(
    context: CommandContext,
    model: LoadedModel,
    asking: Asking,
    *,
    places: int | None,
    rows: Callable[[], Iterator[Row]],
) -> None:
    """Count the prompts of ``rows``, answer a few of them, and say what all would take."""
    console = context.console
    count = count_prompts(model.engine, rows(), asking)
    tokens = _("unknown: only the server can count") if count.tokens is None else f"{count.tokens:,}"
    console.write(_("Rows: {count}").format(count=f"{count.rows:,}") + "\n")
    console.write(_("Prompt tokens: {tokens}").format(tokens=tokens) + "\n")
    if count.tokens is not None:
        console.write(_("Longest prompt: {tokens}").format(tokens=f"{count.longest:,}") + "\n")
    if count.too_long:
        console.write(_("Rows too long for the context: {count}").format(count=f"{count.too_long:,}") + "\n")
    if count.unusable:
        console.write(_("Rows that cannot be asked: {count}").format(count=f"{count.unusable:,}") + "\n")
        console.note(count.problem)
    usable = count.rows - count.too_long - count.unusable
    if not usable:
        return
    with closing(model.engine.answerer(places)) as answerer:
        keys = sample_keys(rows(), min(usable, max(_TRIED, 2 * answerer.places)))
        with BatchProgress(console, total=len(keys)) as progress:
            run = BatchRun(
                answerer, asking, remote=model.remote, write=lambda outcome: None, report=progress.update
            )
            run.run(only(rows(), keys))
    tried = run.state.answered
    if not tried:
        return
    console.write(
        _("Answer tokens, from {tried} rows that were tried: about {tokens}").format(
            tried=tried, tokens=about(run.state.tokens * usable / tried)
        )
        + "\n"
    )
    console.write(_("Time: about {time}").format(time=format_time(run.state.seconds * usable / tried)) + "\n")

"""``tanuki arena export`` and ``import``, and the files of votes that the arena commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import OutputOptions, takes
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.exchange import export_line, not_yet_there, read_any, read_records
from tanuki_cli.evaluation.arena.labels import read_labels
from tanuki_cli.evaluation.arena.votes import LONGEST_NAME, OWN, Ballots, Vote, VoteFile
from tanuki_cli.history.transfer import write_export
from tanuki_cli.i18n import N_, _, plural

_TOLD_LINES: Final = 3

Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", metavar="FILE", help=N_("Votes kept elsewhere, or records as LLMChat's (repeatable).")
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", metavar="LABEL=VERDICT,…", help=N_("What the votes in records of others mean.")),
]


def vote_file(context: CommandContext, path: Path | None) -> VoteFile:
    """The file of votes that ``--file`` names, else the user's own."""
    return VoteFile(path or context.directories.data / "arena" / "votes.jsonl")


def read_files(context: CommandContext, files: Sequence[str], labels: Sequence[str]) -> list[Vote]:
    """The votes of all ``files``, else the user's own, each once."""
    given = read_labels(labels)
    ballots = (
        [read_any(Path(file), given, source=Path(file).stem) for file in files]
        if files
        else [vote_file(context, None).read()]
    )
    for one in ballots:
        tell_left_out(context, one)
    return list({vote.id: vote for one in ballots for vote in one.votes}.values())


def tell_left_out(context: CommandContext, ballots: Ballots) -> None:
    """Say which lines of a file could not be used."""
    for line in ballots.left_out[:_TOLD_LINES]:
        context.console.warn(str(line))
    if len(ballots.left_out) > _TOLD_LINES:
        context.console.warn(
            _("{count} more lines were left out.").format(count=len(ballots.left_out) - _TOLD_LINES)
        )
    if ballots.repeated:
        context.console.warn(
            plural(
                ballots.repeated,
                "{count} vote stands there twice and counts once.",
                _("{count} votes stand there twice and count once."),
            ).format(count=ballots.repeated)
        )


@takes(OutputOptions)
def export(
    ctx: typer.Context,
    options: OutputOptions,
    file: Files = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=N_("A new file; - is stdout."))
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=N_("Imported votes and skipped questions, too."))
    ] = False,
) -> None:
    """Write votes in the fields of the LLMChat records."""
    context = prepare(ctx, options)
    votes = read_files(context, [str(path) for path in file or []], [])
    chosen = [vote for vote in votes if everything or (vote.source == OWN and vote.counts)]
    if not chosen:
        raise InputError(_("There are no votes yet."), hint="tanuki arena MODEL MODEL")
    text = "".join(map(export_line, chosen))
    if output is None or str(output) == "-":
        context.console.write_json_text(text)
        return
    write_export(output, text)
    context.console.note(
        plural(len(chosen), "Written: {path} ({count} vote)", _("Written: {path} ({count} votes)")).format(
            path=output, count=len(chosen)
        )
    )


@takes(OutputOptions)
def import_votes(
    ctx: typer.Context,
    options: OutputOptions,
    records: Annotated[Path, typer.Argument(metavar="FILE", help=N_("One JSON object a line."))],
    labels: Labels = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=N_("The name they are kept under; by default the file's.")),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help=N_("Where the votes are kept."))
    ] = None,
) -> None:
    """Add votes in the fields of the LLMChat records; what is there already is not added again."""
    context = prepare(ctx, options)
    source = " ".join((name or records.stem).split())[:LONGEST_NAME] or "import"
    ballots = read_records(records, read_labels(labels or []), source=source)
    tell_left_out(context, ballots)
    kept = vote_file(context, file)
    present = kept.read()
    tell_left_out(context, present)
    new = not_yet_there(ballots.votes, present.votes)
    kept.add(new)
    context.console.note(
        _("Added as {source}: {count} votes; {known} were there already.").format(
            source=source, count=len(new), known=len(ballots.votes) - len(new)
        ),
        style="success",
    )

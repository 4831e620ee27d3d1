"""``tanuki arena results``: the models rated by the votes."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec import Struct, field, to_builtins

from tanuki_cli.cli.arena_records import Files, Labels, read_files, vote_file
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import OutputOptions, read_count, read_option, takes
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.ratings import PRIOR_TIES, START
from tanuki_cli.evaluation.arena.report import to_csv, to_json, to_svg
from tanuki_cli.evaluation.arena.results import BOOTSTRAP, RatingOptions, evaluate
from tanuki_cli.evaluation.arena.votes import Vote
from tanuki_cli.evaluation.provenance import ModelSource, Provenance
from tanuki_cli.evaluation.svg import write_picture
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec
from tanuki_cli.sampling import MAX_SEED
from tanuki_cli.terminal.arena.standings import print_standings

_BOOTSTRAP: Final = OptionSpec(
    key="bootstrap",
    kind="integer",
    minimum=10,
    maximum=100_000,
    usual=BOOTSTRAP,
    help=N_("How many redraws."),
)
_SEED: Final = OptionSpec(
    key="seed", kind="integer", minimum=0, maximum=MAX_SEED, usual=0, help=N_("Seed of the redraws.")
)
_PRIOR: Final = OptionSpec(
    key="prior",
    kind="number",
    minimum=1e-6,
    maximum=100,
    usual=PRIOR_TIES,
    help=N_("Ties given to each model."),
)
_RATING: Final = OptionSpec(
    key="anchor", kind="number", minimum=-1e6, maximum=1e6, usual=START, help=N_("Rating of the anchor.")
)

RESULTS_HELP: Final = N_(
    """Rate the models by the votes.

Examples:
  tanuki arena results
  tanuki arena results --anchor tanuki-8b:q8_0 --style-control
  tanuki arena results --file LLMChat.jsonl --labels '左=first,右=second,同じ=tie,×=both-bad'
  tanuki arena results --json > ratings.json
  tanuki arena results --again ratings.json"""
)


class ResultOptions(OutputOptions):
    """How votes are chosen and rated."""

    file: Files = None
    labels: Labels = None
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help=N_("Only votes from here: own, or the name of an import (repeatable).")
        ),
    ] = None
    category: Annotated[str | None, typer.Option(metavar="NAME", help=N_("Only votes of this category."))] = (
        None
    )
    style_control: Annotated[
        bool,
        typer.Option("--style-control", help=N_("Take length, headings, lists and bold out of the ratings.")),
    ] = False
    anchor: Annotated[
        str | None,
        typer.Option(metavar="MODEL[=RATING]", help=N_("Hold this model at 1000, or at the rating given.")),
    ] = None
    bootstrap: Annotated[
        str | None, typer.Option(metavar="10-100000", help=N_("How many redraws; 1000 by default."))
    ] = None
    seed: Annotated[
        str | None, typer.Option(metavar="0-4294967294", help=N_("Seed of the redraws; 0 by default."))
    ] = None
    prior: Annotated[
        str | None,
        typer.Option(metavar="0.000001-100", help=N_("Ties that each model is given; 0.5 by default.")),
    ] = None
    again: Annotated[
        Path | None,
        typer.Option("--again", metavar="FILE", help=N_("Rate as this JSON result was rated.")),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False
    as_csv: Annotated[bool, typer.Option("--csv", help=N_("Print a table of comma-separated values."))] = (
        False
    )
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help=N_("Draw the ratings into this file."))
    ] = None


class _Request(Struct, frozen=True, kw_only=True):
    """What a result is made of; written down, so that it can be made again."""

    files: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    category: str | None = None
    rating: RatingOptions = field(default_factory=RatingOptions)


@takes(ResultOptions)
def results(ctx: typer.Context, options: ResultOptions) -> None:
    """Rate the models by the votes."""
    context = prepare(ctx, options)
    if options.as_json and options.as_csv:
        raise InputError(_("--json and --csv cannot be used together."), hint="tanuki arena results --csv")
    request = _again(options.again) if options.again else _request(options)
    votes = _chosen(context, request)
    result = evaluate(votes, request.rating)
    sources = Counter(vote.source for vote in votes if vote.counts)
    if options.svg is not None:
        write_picture(
            options.svg, to_svg(result, title=_("Arena ratings"), axis=_("rating, with its 95 % interval"))
        )
        context.console.note(_("The picture is in {path}.").format(path=options.svg), style="success")
    if options.as_json:
        provenance = _provenance(context, request, votes).to_json()
        context.console.write_json_text(
            to_json(result, request.rating, sources=sources, provenance=provenance)
        )
    elif options.as_csv:
        context.console.write_text(to_csv(result))
    else:
        print_standings(context.console, result, request.rating, sources=sources)


def _request(options: ResultOptions) -> _Request:
    anchor, anchor_rating = _anchor(options.anchor)
    rating = RatingOptions(
        bootstrap=read_count(_BOOTSTRAP, options.bootstrap or str(BOOTSTRAP)),
        seed=read_count(_SEED, options.seed or "0"),
        prior_ties=_number(_PRIOR, options.prior or str(PRIOR_TIES)),
        anchor=anchor,
        anchor_rating=anchor_rating,
        style_control=options.style_control,
    )
    return _Request(
        files=tuple(map(str, options.file or ())),
        labels=tuple(options.labels or ()),
        source=tuple(options.source or ()),
        category=options.category,
        rating=rating,
    )


def _number(spec: OptionSpec, text: str) -> float:
    value = read_option(spec, text)
    assert isinstance(value, float)
    return value


def _anchor(text: str | None) -> tuple[str | None, float]:
    """``MODEL`` or ``MODEL=RATING``; a model's name may hold a = of its own."""
    name, sign, rating = (text or "").rpartition("=")
    try:
        float(rating)
    except ValueError:
        return text or None, START
    return (name, _number(_RATING, rating)) if sign else (text, START)


def _again(path: Path) -> _Request:
    """The request that a JSON result was made by. Raises InputError if it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        options = dict(Provenance.from_json(document["provenance"]).options)
        rating = RatingOptions(**options.pop("rating"))
        lists = {name: tuple(map(str, options.pop(name))) for name in ("files", "labels", "source")}
        read_option(_BOOTSTRAP, str(rating.bootstrap))
        read_option(_PRIOR, str(rating.prior_ties))
        read_option(_SEED, str(rating.seed))
        return _Request(**lists, category=options.get("category"), rating=rating)
    except OSError as exc:
        raise InputError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc)),
            hint=f"ls -l {path}",
        ) from exc
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise InputError(
            _("{path} is not a result of tanuki arena results --json.").format(path=path),
            hint="tanuki arena results --json > ratings.json",
        ) from exc


def _provenance(context: CommandContext, request: _Request, votes: Sequence[Vote]) -> Provenance:
    """What went into a result: the options, and every model file that was voted on."""
    sources = {source: None for vote in votes for source in _sources(vote)}
    options = {**to_builtins(request), "votes_of": str(vote_file(context, None).path)}
    return Provenance.now("arena results", sources, options=options)


def _sources(vote: Vote) -> tuple[ModelSource, ...]:
    try:
        return Provenance.from_json(vote.provenance).models
    except ValueError:  # an import has none
        return ()


def _chosen(context: CommandContext, request: _Request) -> list[Vote]:
    votes = read_files(context, request.files, request.labels)
    _warn_of_changed_files(context, votes)
    return [
        vote
        for vote in votes
        if (not request.source or vote.source in request.source)
        and (request.category is None or vote.category == request.category)
    ]


def _warn_of_changed_files(context: CommandContext, votes: Sequence[Vote]) -> None:
    """The name of a model may have stood for one file then and for another now."""
    digests: dict[str, set[str]] = {}
    for vote in votes:
        for source in _sources(vote):
            digests.setdefault(source.reference, set()).add(source.sha256 or "")
    for name, found in digests.items():
        if len(found) > 1:
            context.console.warn(
                _("{name} was {count} different files when it was voted on; they are rated as one.").format(
                    name=name, count=len(found)
                )
            )

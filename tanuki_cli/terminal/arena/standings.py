"""The standings as a table, and in sentences what the votes say and what they do not."""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

import rich.table

from tanuki_cli.evaluation.arena.intervals import MOST_VOTES_SAID, Share
from tanuki_cli.evaluation.arena.results import (
    ArenaResult,
    Comparison,
    Counts,
    Rating,
    RatingOptions,
    Standing,
)
from tanuki_cli.evaluation.arena.style import FEATURE_NAMES, FEATURES, Effect
from tanuki_cli.evaluation.arena.votes import OWN
from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.sanitize import sanitize_line

_WIDE: Final = 60
_FEW_MODELS: Final = 3


def print_standings(
    console: Console, result: ArenaResult, options: RatingOptions, *, sources: Mapping[str, int]
) -> None:
    """Everything about ``result`` on stdout."""
    _print_table(console, result.rating)
    console.write("\n")
    for line in _sentences(result, options, sources):
        rows = wrap_text(line, console.out.width) if console.out_is_terminal else [line]
        for row in rows:
            console.out.print(row, soft_wrap=True)


def _print_table(console: Console, rating: Rating) -> None:
    wide = console.out.width >= _WIDE or not console.out_is_terminal
    table = rich.table.Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    headings = [_("Rank"), _("Model"), _("Rating"), _("95 %")]
    headings += [_("Votes"), _("Won"), _("Interval")] if wide else []
    for heading in headings:
        left = heading in (_("Model"),)
        table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for standing in rating.standings:
        table.add_row(*_cells(standing)[: len(headings)])
    with console.out.capture() as captured:
        console.out.print(table)
    console.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _cells(standing: Standing) -> tuple[str, ...]:
    share = standing.counts.share
    return (
        str(standing.rank),
        sanitize_line(standing.model),
        f"{standing.rating:.0f}",
        f"±{standing.high - standing.rating:.0f}",
        str(standing.counts.votes),
        f"{share.value:.0%}",
        _range(share),
    )


def _range(share: Share) -> str:
    return f"{share.low:.0%}–{share.high:.0%}"


def _sentences(result: ArenaResult, options: RatingOptions, sources: Mapping[str, int]) -> Iterable[str]:
    yield from _pairs(result.rating)
    yield ""
    yield _position(result.position)
    # A feature that never differs has no effect and no interval.
    yield from (_style(effect) for effect in result.rating.effects if effect.low < effect.high)
    for name, rating in result.categories:
        yield _category(name, rating)
    if result.categories:
        yield ""
    yield _basis(result, options, sources)


def _pairs(rating: Rating) -> Iterable[str]:
    """All pairs of few models; of many only neighbours."""
    names = [standing.model for standing in rating.standings]
    neighbours = set(pairwise(names))
    for pair in rating.comparisons:
        if len(names) <= _FEW_MODELS or pair.models in neighbours:
            yield _pair(pair)


def _pair(pair: Comparison) -> str:
    first, second = map(sanitize_line, pair.models)
    facts = {
        "first": first,
        "second": second,
        "difference": f"{pair.difference:.0f} ± {pair.high - pair.difference:.0f}",
        "count": _rounded(pair.more_votes),
        "most": f"{MOST_VOTES_SAID:,}",
    }
    if not pair.connected:
        return _("{first}, {second}: no votes connect them, not even through other models.").format(**facts)
    if pair.told_apart:
        return _("{first} is better than {second}: {difference} points.").format(**facts)
    if pair.more_votes is None:
        return _(
            "{first}, {second}: the votes do not tell them apart ({difference} points); "
            "if they differ, then so little that even {most} more votes may not show it."
        ).format(**facts)
    return _(
        "{first}, {second}: the votes do not tell them apart ({difference} points); "
        "if they differ as it seems, about {count} more votes on these two would."
    ).format(**facts)


def _rounded(count: int | None) -> str:
    """To two figures: more would claim too much."""
    if count is None:
        return ""
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{math.ceil(count / step) * step:,}"


def _position(position: Counts) -> str:
    share = position.decided
    facts = {"first": position.wins, "second": position.losses, "range": _range(share)}
    if math.isnan(share.value):
        return _("Position: no vote was decided.")
    facts["share"] = f"{share.value:.0%}"
    if share.low <= 0.5 <= share.high:
        return _(
            "Position: shown first won {first} times, shown second {second} times ({share}, {range}); "
            "no sign that the position matters."
        ).format(**facts)
    return _(
        "Position: shown first won {first} times, shown second {second} times ({share}, {range}); "
        "the position seems to matter."
    ).format(**facts)


def _style(effect: Effect) -> str:
    name = _(FEATURE_NAMES[FEATURES.index(effect.feature)])
    facts = {"name": name, "value": f"{effect.value:+.2f}", "range": f"{effect.low:+.2f}…{effect.high:+.2f}"}
    if effect.low <= 0 <= effect.high:
        return _("Style, {name}: {value} ({range}); no sign of an effect.").format(**facts)
    if effect.value > 0:
        return _("Style, {name}: {value} ({range}); voters prefer more of it.").format(**facts)
    return _("Style, {name}: {value} ({range}); voters prefer less of it.").format(**facts)


def _category(name: str, rating: Rating) -> str:
    votes = sum(standing.counts.votes for standing in rating.standings) // 2
    models = " · ".join(
        f"{sanitize_line(one.model)} {one.rating:.0f} ±{one.high - one.rating:.0f}"
        for one in rating.standings
    )
    shown = sanitize_line(name) or _("(no category)")
    return _("{category}, {votes} votes: {models}").format(category=shown, votes=votes, models=models)


def _basis(result: ArenaResult, options: RatingOptions, sources: Mapping[str, int]) -> str:
    names = {OWN: _("your own")}
    origin = " · ".join(
        f"{names.get(name) or sanitize_line(name)} {count}" for name, count in sources.items()
    )
    return _(
        "{votes} votes ({sources}), {skipped} skipped. Bradley–Terry, ties half and half, a prior of "
        "{prior} ties for each model; 95 % intervals from {draws} redraws."
    ).format(
        votes=result.votes,
        sources=origin,
        skipped=result.skipped,
        prior=options.prior_ties,
        draws=options.bootstrap,
    )

"""A result for other programs: JSON, CSV, and a picture."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from tanuki_cli.evaluation.arena.intervals import CONFIDENCE, Share
from tanuki_cli.evaluation.arena.ratings import BASE, SCALE, START
from tanuki_cli.evaluation.arena.results import (
    ArenaResult,
    Comparison,
    Counts,
    Rating,
    RatingOptions,
    Standing,
)
from tanuki_cli.evaluation.svg import Interval, interval_plot

CSV_FIELDS = (
    "category", "model", "rank", "rating", "low", "high",
    "votes", "wins", "losses", "ties", "both_bad", "win_rate", "win_low", "win_high",
)  # fmt: skip


def to_json(
    result: ArenaResult, options: RatingOptions, *, sources: Mapping[str, int], provenance: Mapping[str, Any]
) -> str:
    """One object; its keys do not change with the language."""
    document = {
        "votes": result.votes,
        "skipped": result.skipped,
        "sources": dict(sources),
        **_rating(result.rating),
        "positions": {
            "first": result.position.wins,
            "second": result.position.losses,
            "ties": result.position.ties,
            "both_bad": result.position.both_bad,
            **_share("first_share", result.position.decided),
        },
        "categories": [{"category": name, **_rating(rating)} for name, rating in result.categories],
        "method": {
            "scale": SCALE,
            "base": BASE,
            "start": START,
            "confidence": CONFIDENCE,
            **to_builtins(options),
        },
        "provenance": dict(provenance),
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def to_csv(result: ArenaResult) -> str:
    """A row for every model over all votes (no category), then for every category."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for category, rating in (("", result.rating), *result.categories):
        writer.writerows(_row(category, standing) for standing in rating.standings)
    return file.getvalue()


def to_svg(result: ArenaResult, *, title: str, axis: str) -> str:
    """The ratings with their intervals, the best first."""
    intervals = [
        Interval(label=one.model, value=one.rating, low=one.low, high=one.high)
        for one in result.rating.standings
    ]
    return interval_plot(title, intervals, axis=axis)


def _rating(rating: Rating) -> dict[str, Any]:
    return {
        "models": [_standing(standing) for standing in rating.standings],
        "pairs": [_pair(pair) for pair in rating.comparisons],
        "style": [to_builtins(effect) for effect in rating.effects],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "model": standing.model,
        "rank": standing.rank,
        "rating": standing.rating,
        "low": standing.low,
        "high": standing.high,
        **_counts(standing.counts),
        "as_first": _counts(standing.as_first),
        "as_second": _counts(standing.as_second),
    }


def _pair(pair: Comparison) -> dict[str, Any]:
    return {
        "models": list(pair.models),
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "told_apart": pair.told_apart,
        "connected": pair.connected,
        "more_votes": pair.more_votes,
        **_counts(pair.counts),
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "votes": counts.votes,
        "wins": counts.wins,
        "losses": counts.losses,
        "ties": counts.ties,
        "both_bad": counts.both_bad,
        **_share("win_rate", counts.share),
    }


def _share(name: str, share: Share) -> dict[str, float | None]:
    value = None if share.value != share.value else share.value
    start = name.removesuffix("_rate").removesuffix("_share")
    return {name: value, f"{start}_low": share.low, f"{start}_high": share.high}


def _row(category: str, standing: Standing) -> dict[str, Any]:
    row = {"category": category, **_standing(standing)}
    return {name: row[name] for name in CSV_FIELDS}

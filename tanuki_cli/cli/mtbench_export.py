"""What ``tanuki mtbench show`` gives other programs: JSON, CSV and a picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from tanuki_cli.cli.mtbench_output import TITLES
from tanuki_cli.evaluation.mtbench.questions import CATEGORIES
from tanuki_cli.evaluation.mtbench.report import CARD_AVERAGES, CARD_JUDGE, ModelReport
from tanuki_cli.evaluation.mtbench.results import Results
from tanuki_cli.evaluation.svg import Series, radar, write_picture
from tanuki_cli.text.sanitize import sanitize_line

_HIGHEST: Final = 10.0


def as_json(results: Results) -> dict[str, Any]:
    """One object with everything that was counted."""
    return {
        "models": [_report_json(report, results) for report in results.reports],
        "pairs": [{**to_builtins(one), "adjusted_win_rate": one.adjusted_win_rate} for one in results.pairs],
        "unreadable_pairs": results.unreadable_pairs,
        "card": {"judge": CARD_JUDGE, "averages": dict(CARD_AVERAGES)},
        "left_out": [str(line) for line in results.left_out],
    }


def _report_json(report: ModelReport, results: Results) -> dict[str, Any]:
    source = results.sources.get(report.model)
    return {**to_builtins(report), "provenance": source.to_json() if source else None}


def as_csv(results: Results) -> str:
    """A row for every model and category, and one for the average."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fields = (
        "mean",
        "with_failures",
        "first_turn",
        "second_turn",
        "questions",
        "judgements",
        "unreadable",
        "japanese_share",
    )
    writer.writerow(("judge", "model", "category", *fields, "error", "choices_deviation"))
    for report in results.reports:
        for category, scores in (*report.categories.items(), ("average", report.total)):
            values = [getattr(scores, name) for name in fields]
            spreads = (report.error, report.choices_deviation) if scores is report.total else (None, None)
            names = map(sanitize_line, (report.judge, report.model, category))
            cells = [*names, *values, *spreads]
            writer.writerow("" if cell is None else cell for cell in cells)
    return buffer.getvalue()


def write_radar(path: Path, reports: Sequence[ModelReport]) -> None:
    """Draw the category means. Raises InputError if ``path`` cannot be written."""
    series = [
        Series(
            label=f"{report.model} ({report.judge})",
            values=tuple(_mean(report, category) for category in CATEGORIES),
        )
        for report in reports
    ]
    picture = radar(
        "Japanese MT-Bench", [TITLES[category] for category in CATEGORIES], series, maximum=_HIGHEST
    )
    write_picture(path, picture)


def _mean(report: ModelReport, category: str) -> float:
    scores = report.categories.get(category)
    return scores.mean if scores is not None and scores.mean is not None else 0.0

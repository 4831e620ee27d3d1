"""The result of a comparison as one SVG: mean divergences as bars, and against the size of the file."""

from collections.abc import Sequence

from tanuki_cli.evaluation.compare.results import ALL, CandidateResult
from tanuki_cli.evaluation.svg import Bar, Point, bar_chart, scatter, stacked
from tanuki_cli.i18n import _


def picture(candidates: Sequence[CandidateResult]) -> str:
    """Of all candidates that were scored."""
    scored = [candidate for candidate in candidates if ALL in candidate.divergence]
    bars = [
        Bar(
            label=candidate.figures.source.reference,
            value=candidate.divergence[ALL].kl.value,
            error=candidate.divergence[ALL].kl.error,
        )
        for candidate in scored
    ]
    points = [
        Point(
            label=candidate.figures.source.reference,
            x=candidate.figures.source.file_bytes / 1e9,
            y=candidate.divergence[ALL].kl.value,
            y_error=candidate.divergence[ALL].kl.error,
        )
        for candidate in scored
        if candidate.figures.source.file_bytes is not None
    ]
    return stacked(
        [
            bar_chart(_("Divergence from the reference"), bars, axis=_("mean KL divergence (nats)")),
            scatter(
                _("Divergence and size"),
                points,
                x_axis=_("size of the file (GB)"),
                y_axis=_("mean KL divergence (nats)"),
                log_y=True,
            ),
        ]
    )

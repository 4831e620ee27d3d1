"""What a comparison found, as values, JSON and CSV."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, to_builtins

from tanuki_cli.evaluation.compare.answers import AnswerRow
from tanuki_cli.evaluation.compare.divergence import QUANTILES, Divergence, Estimate
from tanuki_cli.evaluation.provenance import ModelSource, Provenance

ALL: Final = "all"
"""The name of all categories together in JSON and CSV."""
_QUANTILE_NAMES: Final = tuple(
    {1.0: "max", 0.0: "min", 0.5: "median"}.get(share, f"p{100 * share:g}") for share in QUANTILES
)
_ESTIMATES: Final = (
    "kl",
    "same_top",
    "delta_p",
    "delta_p_rms",
    "perplexity",
    "reference_perplexity",
    "log_ratio",
    "ratio",
    "difference",
)


class ModelFigures(Struct, frozen=True, kw_only=True):
    """What a model is and takes. ``memory_bytes`` is what loading it and a few tokens added to the
    process; ``tokens_per_s`` is the speed of reading, ``answer_tokens_per_s`` that of answering; None
    where it was not measured."""

    source: ModelSource
    load_s: float
    memory_bytes: int | None
    tokens_per_s: float | None
    answer_tokens_per_s: float | None


class ReferenceResult(Struct, frozen=True, kw_only=True):
    """The reference, and its perplexity for each category and :data:`ALL`."""

    figures: ModelFigures
    perplexity: Mapping[str, Estimate]


class CandidateResult(Struct, frozen=True, kw_only=True):
    """A model beside the reference for each category and :data:`ALL`; nothing for a served one."""

    figures: ModelFigures
    divergence: Mapping[str, Divergence]


class Comparison(Struct, frozen=True, kw_only=True):
    """A whole result. ``places`` counts the scored ids of each category and of :data:`ALL`.

    ``cut`` is "documents" or "llama.cpp", ``context_length`` what the passages were cut to, and
    ``texts_sha256`` names their ids. ``stored`` says that the reference's distributions went through
    the file of :mod:`~tanuki_cli.evaluation.compare.distributions`.
    """

    provenance: Provenance
    cut: str
    context_length: int
    texts_sha256: str
    stored: bool
    places: Mapping[str, int]
    reference: ReferenceResult
    candidates: tuple[CandidateResult, ...]
    answers: tuple[AnswerRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything; what is no number is null."""
        return {
            "provenance": self.provenance.to_json(),
            "texts": {
                "cut": self.cut,
                "context_length": self.context_length,
                "sha256": self.texts_sha256,
                "places": dict(self.places),
            },
            "reference_was_stored": self.stored,
            "reference": {
                **_figures(self.reference.figures),
                "perplexity": {name: _estimate(value) for name, value in self.reference.perplexity.items()},
            },
            "candidates": [
                {
                    **_figures(candidate.figures),
                    "categories": {
                        name: divergence_as_json(value) for name, value in candidate.divergence.items()
                    },
                }
                for candidate in self.candidates
            ],
            "answers": [to_builtins(row) for row in self.answers],
        }

    def to_csv(self) -> str:
        """One row for each candidate and category, all figures with their errors."""
        columns = ["model", "category", "tokens", "file_bytes", "memory_bytes", "tokens_per_s"]
        for name in _ESTIMATES:
            columns += [name, f"{name}_error"]
        columns += ["correlation"]
        columns += [f"kl_{name}" for name in _QUANTILE_NAMES]
        columns += [f"delta_p_{name}" for name in _QUANTILE_NAMES]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(self._rows())
        return text.getvalue()

    def _rows(self) -> Iterator[Sequence[object]]:
        for candidate in self.candidates:
            figures = candidate.figures
            for category, value in candidate.divergence.items():
                row: list[object] = [
                    figures.source.reference,
                    category,
                    value.tokens,
                    figures.source.file_bytes,
                    figures.memory_bytes,
                    figures.tokens_per_s,
                ]
                for name in _ESTIMATES:
                    estimate: Estimate = getattr(value, name)
                    row += [_number(estimate.value), _number(estimate.error)]
                row.append(_number(value.correlation))
                row += map(_number, (*value.kl_quantiles, *value.delta_p_quantiles))
                yield row


def divergence_as_json(value: Divergence) -> dict[str, Any]:
    """The figures by name, estimates with their errors, quantiles from the largest down."""
    return {
        "tokens": value.tokens,
        **{name: _estimate(getattr(value, name)) for name in _ESTIMATES},
        "correlation": _number(value.correlation),
        "kl_quantiles": dict(zip(_QUANTILE_NAMES, map(_number, value.kl_quantiles), strict=True)),
        "delta_p_quantiles": dict(zip(_QUANTILE_NAMES, map(_number, value.delta_p_quantiles), strict=True)),
    }


def _figures(figures: ModelFigures) -> dict[str, Any]:
    return {
        "model": figures.source.reference,
        "file_bytes": figures.source.file_bytes,
        "memory_bytes": figures.memory_bytes,
        "load_s": figures.load_s,
        "tokens_per_s": figures.tokens_per_s,
        "answer_tokens_per_s": figures.answer_tokens_per_s,
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _number(estimate.value), "error": _number(estimate.error)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

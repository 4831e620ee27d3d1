"""How far one model's next-token distributions are from another's, at the same places of the same ids.

The figures are those that llama.cpp's perplexity tool prints with ``--kl-divergence``, by the same
definitions, errors and quantiles; all sums are in float64, and over the whole vocabulary, where that tool
leaves out what the reference gives less than e^-16. Errors are standard errors and take tokens for
independent. With :data:`MIN_TOKENS` places or fewer there is none (NaN).

Logits have the shape (rows, vocabulary), a row for every scored place; ``targets`` are the ids that really
came there. Nothing here keeps a row.
"""

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct

from tanuki_cli.engines.probabilities import Floats, Logits, divergences, normalized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.int32]

MIN_TOKENS: Final = 10
QUANTILES: Final = (1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0)


class ReferenceRows(Struct, frozen=True, kw_only=True):
    """What the reference says at some places.

    ``log_probs`` and ``probs`` (rows, vocabulary) may be a little off where they were stored; ``nll``, the
    negative log probability of the target, and ``top``, the likeliest id, are exact.
    """

    log_probs: Floats
    probs: Floats
    nll: Floats
    top: "Ids"


class CandidateScores(Struct, frozen=True, kw_only=True):
    """What is kept of a candidate at some places: KL(reference ‖ candidate) in nats, the negative log
    probability of the target, the likeliest id."""

    kl: Floats
    nll: Floats
    top: "Ids"


class Places(Struct, frozen=True, kw_only=True):
    """A candidate beside the reference over many places, one entry a place."""

    kl: Floats
    nll: Floats
    reference_nll: Floats
    same_top: "NDArray[np.bool_]"

    def __len__(self) -> int:
        return len(self.kl)


class Estimate(Struct, frozen=True):
    """A figure and its standard error, NaN where there are too few places to tell."""

    value: float
    error: float = math.nan


class Divergence(Struct, frozen=True, kw_only=True):
    """The figures of a candidate over ``tokens`` places.

    ``kl`` is in nats. ``delta_p`` is the change of the target's probability, candidate less reference;
    its ``rms`` is the root of the mean square. ``kl_quantiles`` and ``delta_p_quantiles`` belong to
    :data:`QUANTILES`, from the largest to the smallest. ``correlation`` is that of the two logarithms of
    the perplexities. Errors of ratio and difference take the covariance into account: both models were
    surprised by the same places.
    """

    tokens: int
    kl: Estimate
    kl_quantiles: tuple[float, ...]
    same_top: Estimate
    delta_p: Estimate
    delta_p_rms: Estimate
    delta_p_quantiles: tuple[float, ...]
    perplexity: Estimate
    reference_perplexity: Estimate
    log_ratio: Estimate
    ratio: Estimate
    difference: Estimate
    correlation: float

    def kl_at(self, fraction: float) -> float:
        """The quantile ``fraction`` of the divergence, one of :data:`QUANTILES`."""
        return self.kl_quantiles[QUANTILES.index(fraction)]


def reference_rows(logits: Logits, targets: "Ids") -> ReferenceRows:
    """What the reference's ``logits`` say."""
    log_probs, probs = normalized(logits)
    top = logits.argmax(axis=-1).astype(np.int32)
    return ReferenceRows(log_probs=log_probs, probs=probs, nll=_nll(log_probs, targets), top=top)


def score_candidate(reference: ReferenceRows, logits: Logits, targets: "Ids") -> CandidateScores:
    """The candidate's ``logits`` against the reference at the same places."""
    log_probs, _probs = normalized(logits)
    nll = _nll(log_probs, targets)
    kl = divergences(reference.log_probs, reference.probs, log_probs)
    return CandidateScores(kl=kl, nll=nll, top=logits.argmax(axis=-1).astype(np.int32))


def summarize(places: Places) -> Divergence:
    """The figures over all of ``places``. Raises ValueError if there is none."""
    if not len(places):
        raise ValueError("there is no place to score")
    delta_p = np.exp(-places.nll) - np.exp(-places.reference_nll)
    own, base = _mean(places.nll), _mean(places.reference_nll)
    covariance = _covariance(places.nll, places.reference_nll)
    perplexity, reference_perplexity = _exponential(own), _exponential(base)
    log_ratio = Estimate(own.value - base.value, _difference_error(own.error, base.error, covariance))
    spread = _difference_error(
        perplexity.error,
        reference_perplexity.error,
        perplexity.value * reference_perplexity.value * covariance,
    )
    scale = own.error * base.error
    return Divergence(
        tokens=len(places),
        kl=_mean(places.kl),
        kl_quantiles=_quantiles(places.kl),
        same_top=_share(places.same_top),
        delta_p=_mean(delta_p),
        delta_p_rms=_root_mean_square(delta_p),
        delta_p_quantiles=_quantiles(delta_p),
        perplexity=perplexity,
        reference_perplexity=reference_perplexity,
        log_ratio=log_ratio,
        ratio=_exponential(log_ratio),
        difference=Estimate(perplexity.value - reference_perplexity.value, spread),
        correlation=covariance / scale if scale > 0 else math.nan,
    )


def perplexity(nll: Floats) -> Estimate:
    """e to the mean negative log probability. Raises ValueError if there is none."""
    if not len(nll):
        raise ValueError("there is no place to score")
    return _exponential(_mean(nll))


def _nll(log_probs: Floats, targets: "Ids") -> Floats:
    chosen: Floats = -np.take_along_axis(log_probs, targets[:, None].astype(np.int64), axis=-1)[:, 0]
    return chosen


def _mean(values: Floats) -> Estimate:
    mean = float(values.mean())
    if len(values) <= MIN_TOKENS:
        return Estimate(mean)
    # Over the mean of squares less the square of the mean this does not cancel.
    variance = float(np.square(values - mean).mean())
    return Estimate(mean, math.sqrt(variance / (len(values) - 1)))


def _covariance(one: Floats, other: Floats) -> float:
    """Of the two means."""
    if len(one) <= MIN_TOKENS:
        return math.nan
    return float(((one - one.mean()) * (other - other.mean())).mean()) / (len(one) - 1)


def _share(same: "NDArray[np.bool_]") -> Estimate:
    share, count = float(same.mean()), len(same)
    if count <= MIN_TOKENS:
        return Estimate(share)
    return Estimate(share, math.sqrt(share * (1 - share) / (count - 1)))


def _root_mean_square(values: Floats) -> Estimate:
    square = _mean(np.square(values))
    root = math.sqrt(square.value)
    return Estimate(root, 0.5 * square.error / root if root > 0 else square.error)


def _exponential(log: Estimate) -> Estimate:
    value = math.exp(log.value) if log.value < 700 else math.inf
    return Estimate(value, value * log.error)


def _difference_error(one: float, other: float, covariance: float) -> float:
    # Rounding may bring it below zero where the two hardly differ.
    return (
        math.sqrt(max(one * one + other * other - 2 * covariance, 0.0)) if not math.isnan(one) else math.nan
    )


def _quantiles(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))

"""The figures of a comparison against plain loops over llama.cpp's definitions, and against torch."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tanuki_cli.evaluation.compare.divergence import (
    MIN_TOKENS,
    QUANTILES,
    Places,
    ReferenceRows,
    perplexity,
    reference_rows,
    score_candidate,
    summarize,
)
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch

ROWS, VOCABULARY = 400, 700
Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def pair() -> tuple[Rows, Rows, NDArray[np.int32]]:
    generator = np.random.default_rng(5)
    reference = (4 * generator.standard_normal((ROWS, VOCABULARY))).astype(np.float32)
    candidate = (reference + 0.4 * generator.standard_normal(reference.shape)).astype(np.float32)
    return reference, candidate, generator.integers(0, VOCABULARY, ROWS).astype(np.int32)


def places_of(reference: Rows, candidate: Rows, targets: NDArray[np.int32]) -> Places:
    rows = reference_rows(reference, targets)
    scores = score_candidate(rows, candidate, targets)
    return Places(kl=scores.kl, nll=scores.nll, reference_nll=rows.nll, same_top=rows.top == scores.top)


def first(pair: tuple[Rows, Rows, NDArray[np.int32]], count: int) -> Places:
    reference, candidate, targets = pair
    return places_of(reference[:count], candidate[:count], targets[:count])


def loops(reference: Rows, candidate: Rows, targets: Sequence[int]) -> dict[str, float]:
    """llama.cpp's perplexity tool, in its own order: one sum for each figure, then what is printed."""
    sums = dict.fromkeys(("a", "a2", "b", "b2", "ab", "k", "k2", "d", "d2", "d4", "same"), 0.0)
    kl_values, differences = [], []
    for base_row, row, target in zip(reference.tolist(), candidate.tolist(), targets, strict=True):
        base_norm = math.log(math.fsum(math.exp(value) for value in base_row))
        norm = math.log(math.fsum(math.exp(value) for value in row))
        b, a = base_norm - base_row[target], norm - row[target]
        k = math.fsum(
            math.exp(one - base_norm) * ((one - base_norm) - (other - norm))
            for one, other in zip(base_row, row, strict=True)
        )
        d = math.exp(-a) - math.exp(-b)
        kl_values.append(k)
        differences.append(d)
        for name, value in zip(sums, (a, a * a, b, b * b, a * b, k, k * k, d, d * d, d**4), strict=False):
            sums[name] += value
        sums["same"] += base_row.index(max(base_row)) == row.index(max(row))
    count = len(kl_values)

    def mean(total: float, squares: float) -> tuple[float, float]:
        value = total / count
        return value, math.sqrt((squares / count - value * value) / (count - 1))

    (own, own_error), (base, base_error) = mean(sums["a"], sums["a2"]), mean(sums["b"], sums["b2"])
    covariance = (sums["ab"] / count - own * base) / (count - 1)
    ratio_error = math.sqrt(own_error**2 + base_error**2 - 2 * covariance)
    mse, mse_error = mean(sums["d2"], sums["d4"])
    same = sums["same"] / count
    return {
        "kl": sums["k"] / count,
        "kl.error": mean(sums["k"], sums["k2"])[1],
        "perplexity": math.exp(own),
        "perplexity.error": math.exp(own) * own_error,
        "reference_perplexity": math.exp(base),
        "reference_perplexity.error": math.exp(base) * base_error,
        "log_ratio": own - base,
        "log_ratio.error": ratio_error,
        "ratio": math.exp(own - base),
        "ratio.error": math.exp(own - base) * ratio_error,
        "difference": math.exp(own) - math.exp(base),
        "difference.error": math.sqrt(
            (math.exp(own) * own_error) ** 2
            + (math.exp(base) * base_error) ** 2
            - 2 * math.exp(own) * math.exp(base) * covariance
        ),
        "delta_p": sums["d"] / count,
        "delta_p.error": mean(sums["d"], sums["d2"])[1],
        "delta_p_rms": math.sqrt(mse),
        "delta_p_rms.error": 0.5 / math.sqrt(mse) * mse_error,
        "same_top": same,
        "same_top.error": math.sqrt(same * (1 - same) / (count - 1)),
        "correlation": covariance / (own_error * base_error),
        **{f"kl_{share}": percentile(kl_values, share) for share in QUANTILES},
        **{f"delta_p_{share}": percentile(differences, share) for share in QUANTILES},
    }


def percentile(values: Sequence[float], fraction: float) -> float:
    """As that tool: between the two values around the place."""
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    low = int(place)
    return (1 - place + low) * ordered[low] + (place - low) * ordered[min(low + 1, len(ordered) - 1)]


def test_every_figure_is_llama_cpps(pair: tuple[Rows, Rows, NDArray[np.int32]]) -> None:
    reference, candidate, targets = pair
    found = summarize(places_of(reference, candidate, targets))
    expected = loops(reference, candidate, targets.tolist())
    got: dict[str, float] = {"correlation": found.correlation}
    for name in expected:
        if name.split(".")[0] in found.__struct_fields__ and name != "correlation":
            estimate = getattr(found, name.split(".")[0])
            got[name] = estimate.error if name.endswith(".error") else estimate.value
    got |= {f"kl_{share}": value for share, value in zip(QUANTILES, found.kl_quantiles, strict=True)}
    got |= {
        f"delta_p_{share}": value for share, value in zip(QUANTILES, found.delta_p_quantiles, strict=True)
    }
    assert got == pytest.approx(expected, rel=1e-8)
    assert found.tokens == ROWS
    assert found.kl_at(0.99) == pytest.approx(expected["kl_0.99"])


def test_torch_finds_the_same_divergence(pair: tuple[Rows, Rows, NDArray[np.int32]]) -> None:
    reference, candidate, targets = pair
    exact, other = (torch.from_numpy(rows).double().log_softmax(-1) for rows in (reference, candidate))
    divergence = torch.nn.functional.kl_div(other, exact, log_target=True, reduction="none").sum(-1)
    np.testing.assert_allclose(places_of(reference, candidate, targets).kl, divergence.numpy(), rtol=1e-9)


def test_a_model_against_itself_has_exactly_no_divergence(
    pair: tuple[Rows, Rows, NDArray[np.int32]],
) -> None:
    reference, _candidate, targets = pair
    found = summarize(places_of(reference, reference, targets))
    assert (found.kl.value, found.delta_p_rms.value, found.log_ratio.value) == (0.0, 0.0, 0.0)
    assert (found.same_top.value, found.ratio.value, found.ratio.error) == (1.0, 1.0, 0.0)
    assert found.correlation == pytest.approx(1.0)


def test_blocks_joined_are_the_whole(pair: tuple[Rows, Rows, NDArray[np.int32]]) -> None:
    """Rows may come in blocks of any size."""
    whole = places_of(*pair)
    cuts = sorted(random.Random(1).sample(range(1, ROWS), 9))
    parts = [
        places_of(pair[0][start:end], pair[1][start:end], pair[2][start:end])
        for start, end in zip([0, *cuts], [*cuts, ROWS], strict=True)
    ]
    assert np.array_equal(np.concatenate([part.kl for part in parts]), whole.kl)
    assert np.array_equal(np.concatenate([part.nll for part in parts]), whole.nll)


def test_an_id_that_both_rule_out_counts_for_nothing() -> None:
    targets = np.zeros(1, dtype=np.int32)
    some, fewer = (np.array([row], dtype=np.float32) for row in ([1.0, 2.0, -np.inf], [1.0, 2.0]))
    with_it = places_of(some, some - np.float32(0.5), targets)
    assert with_it.kl[0] == pytest.approx(places_of(fewer, fewer, targets).kl[0], abs=1e-12)
    ruled_out = places_of(fewer, np.array([[1.0, -np.inf]], dtype=np.float32), targets)
    assert ruled_out.kl[0] == math.inf


def test_huge_logits_are_no_trouble() -> None:
    targets = np.array([1], dtype=np.int32)
    rows = np.array([[3e38, -3e38, 0.0]], dtype=np.float32)
    found = places_of(rows, rows, targets)
    assert found.kl[0] == 0.0
    assert math.isfinite(found.nll[0])
    assert summarize(found).perplexity.value == math.inf


def test_few_places_have_no_error(pair: tuple[Rows, Rows, NDArray[np.int32]]) -> None:
    few = summarize(first(pair, MIN_TOKENS))
    more = summarize(first(pair, MIN_TOKENS + 1))
    assert math.isnan(few.kl.error)
    assert math.isnan(few.ratio.error)
    assert more.kl.error > 0
    assert more.ratio.error > 0


@pytest.mark.parametrize("check", [lambda places: summarize(places), lambda places: perplexity(places.nll)])
def test_no_place_is_a_value_error(
    check: Callable[[Places], object], pair: tuple[Rows, Rows, NDArray[np.int32]]
) -> None:
    with pytest.raises(ValueError, match="no place"):
        check(first(pair, 0))


def test_the_top_of_a_stored_reference_is_taken_as_it_was() -> None:
    """Two ids that the stored form cannot tell apart keep their order."""
    rows = np.array([[5.0, 5.0 + 1e-6]], dtype=np.float64)
    targets = np.zeros(1, dtype=np.int32)
    exact = reference_rows(rows.astype(np.float32), targets)
    half = np.array([[0.5, 0.5]])
    top = np.array([1], dtype=np.int32)
    blurred = ReferenceRows(log_probs=np.log(half), probs=half, nll=exact.nll, top=top)
    assert score_candidate(blurred, rows.astype(np.float32), targets).nll == pytest.approx(exact.nll)
    assert blurred.top[0] == 1

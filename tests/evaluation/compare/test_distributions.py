"""The file of the reference's distributions: its stated error, and what a broken write leaves."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tanuki_cli.evaluation.compare.distributions import (
    bytes_needed,
    is_whole,
    read_distributions,
    write_distributions,
)
from tanuki_cli.evaluation.compare.divergence import ReferenceRows, reference_rows, score_candidate

TANUKIS_VOCABULARY = 65_024


def rows_like_a_models(count: int, vocabulary: int, *, seed: int = 1) -> NDArray[np.float32]:
    """A few likely ids above many unlikely ones, sure and unsure rows alike."""
    generator = np.random.default_rng(seed)
    rows = 3.5 * generator.standard_normal((count, vocabulary))
    rows[:, :50] += generator.uniform(0, 25, (count, 1)) * generator.uniform(0, 1, (count, 50))
    return rows.astype(np.float32)


def stored(path: Path, rows: ReferenceRows, *, block: int = 7) -> ReferenceRows:
    count, vocabulary = rows.log_probs.shape
    cuts = [*range(0, count, block), count]
    blocks = (
        ReferenceRows(
            log_probs=rows.log_probs[a:b], probs=rows.probs[a:b], nll=rows.nll[a:b], top=rows.top[a:b]
        )
        for a, b in pairwise(cuts)
    )
    write_distributions(path, blocks, places=count, vocabulary=vocabulary)
    assert is_whole(path, places=count, vocabulary=vocabulary)
    parts = list(read_distributions(path, rows=5))
    assert max(len(part.nll) for part in parts) <= 5
    return ReferenceRows(
        log_probs=np.concatenate([part.log_probs for part in parts]),
        probs=np.concatenate([part.probs for part in parts]),
        nll=np.concatenate([part.nll for part in parts]),
        top=np.concatenate([part.top for part in parts]),
    )


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("vocabulary", [3_960, TANUKIS_VOCABULARY])
def test_the_error_is_as_stated(tmp_path: Path, noise: float, vocabulary: int) -> None:
    logits = rows_like_a_models(40, vocabulary)
    generator = np.random.default_rng(2)
    candidate = (logits + noise * generator.standard_normal(logits.shape)).astype(np.float32)
    targets = generator.integers(0, 50, len(logits)).astype(np.int32)
    exact = reference_rows(logits, targets)
    read = stored(tmp_path / "x.dist", exact)
    assert np.array_equal(read.nll, exact.nll)
    assert np.array_equal(read.top, exact.top)
    np.testing.assert_allclose(np.exp(read.log_probs).sum(axis=-1), 1.0, rtol=1e-12)
    before = score_candidate(exact, candidate, targets).kl.mean()
    after = score_candidate(read, candidate, targets).kl.mean()
    assert abs(after - before) < 1e-8 + 1e-4 * math.sqrt(before / len(logits))


def test_the_size_is_as_stated(tmp_path: Path) -> None:
    logits = rows_like_a_models(3, TANUKIS_VOCABULARY)
    stored(tmp_path / "x.dist", reference_rows(logits, np.zeros(3, dtype=np.int32)))
    size = (tmp_path / "x.dist").stat().st_size
    assert 0 <= size - bytes_needed(3, TANUKIS_VOCABULARY) < 64
    assert size / 3 == pytest.approx(130_000, rel=0.01)


def test_extreme_rows_survive(tmp_path: Path) -> None:
    logits = np.array(
        [[0.0, 0.0, 0.0], [80.0, -np.inf, 3.0], [-np.inf, -np.inf, 1.0], [1e30, 0.0, -1e30]], dtype=np.float32
    )
    exact = reference_rows(logits, np.array([0, 0, 2, 0], dtype=np.int32))
    read = stored(tmp_path / "x.dist", exact)
    np.testing.assert_allclose(np.exp(read.log_probs), np.exp(exact.log_probs), atol=1e-9)
    assert np.array_equal(np.isinf(read.log_probs[1:3]), np.isinf(exact.log_probs[1:3]))


def test_a_broken_write_leaves_nothing(tmp_path: Path) -> None:
    exact = reference_rows(rows_like_a_models(4, 100), np.zeros(4, dtype=np.int32))

    def blocks() -> Iterator[ReferenceRows]:
        yield exact
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_distributions(tmp_path / "x.dist", blocks(), places=8, vocabulary=100)
    assert list(tmp_path.iterdir()) == []


def test_only_the_whole_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.dist"
    assert not is_whole(path, places=4, vocabulary=100)
    stored(path, reference_rows(rows_like_a_models(4, 100), np.zeros(4, dtype=np.int32)))
    assert not is_whole(path, places=5, vocabulary=100)
    assert not is_whole(path, places=4, vocabulary=101)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert not is_whole(path, places=4, vocabulary=100)
    path.write_bytes(b"x" + data[1:])
    assert not is_whole(path, places=4, vocabulary=100)

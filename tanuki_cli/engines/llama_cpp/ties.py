"""Whether the best of the next tokens is the best beyond rounding."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tanuki_cli.engines.probabilities import Logits

MARGIN: Final = 0.05
"""Two logits nearer than this share of the best one's height above the mean may change places when the
same ids are computed in batches of other sizes. The practice model's move by up to 0.015 of it (200
positions, Q8_0), and two may move towards each other. Random weights move by 0.15: for them every
position is a near tie, and nothing is gained by drafts, but nothing is wrong either."""


def as_array(pointer: Any, n_vocab: int) -> Logits:
    """The ``n_vocab`` floats at a C pointer, not copied."""
    return np.ctypeslib.as_array(pointer, shape=(n_vocab,))


def stacked(rows: Sequence[Logits]) -> Logits:
    """A copy of ``rows``, of shape (rows, vocabulary)."""
    return np.stack(rows)


def forbid(logits: Logits, allowed: npt.NDArray[np.bool_]) -> None:
    """Make all but the ``allowed`` tokens impossible, in place."""
    np.putmask(logits, ~allowed, -np.inf)


def is_near_tie(
    logits: Logits,
    *,
    repeat_penalty: float,
    recent_ids: Sequence[int],
    allowed: npt.NDArray[np.bool_] | None = None,
) -> bool:
    """Whether a second token comes so near the best of ``logits`` (one per token of the vocabulary) that
    rounding could put it first. ``recent_ids`` are those that ``repeat_penalty`` holds back, as
    llama.cpp's sampler does: positive logits are divided by it, others multiplied. With ``allowed`` only
    those tokens count.
    """
    if repeat_penalty != 1.0:
        logits = logits.copy()
        recent = np.unique(np.asarray(recent_ids, dtype=np.int64))
        values = logits[recent]
        logits[recent] = np.where(values > 0, values / repeat_penalty, values * repeat_penalty)
    mean = logits.mean()
    if allowed is not None:
        logits = logits[allowed]
    best = logits.max()
    threshold = best - MARGIN * abs(best - mean)
    return int(np.count_nonzero(logits >= threshold)) > 1

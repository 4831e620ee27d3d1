"""Whether the best of the next tokens is the best beyond rounding."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MARGIN: Final = 0.05
"""Two logits nearer than this share of the best one's height above the mean may change places when the
same ids are computed in batches of other sizes. The practice model's move by up to 0.015 of it (200
positions, Q8_0), and two may move towards each other. Random weights move by 0.15: for them every
position is a near tie, and nothing is gained by drafts, but nothing is wrong either."""


Logits = npt.NDArray[np.float32]


def as_array(pointer: Any, n_vocab: int) -> Logits:
    """The ``n_vocab`` floats at a C pointer, not copied."""
    return np.ctypeslib.as_array(pointer, shape=(n_vocab,))


def stacked(rows: Sequence[Logits]) -> Logits:
    """A copy of ``rows``, of shape (rows, vocabulary)."""
    return np.stack(rows)


def is_near_tie(logits: Logits, *, repeat_penalty: float, recent_ids: Sequence[int]) -> bool:
    """Whether a second token comes so near the best of ``logits`` (one per token of the vocabulary) that
    rounding could put it first. ``recent_ids`` are those that ``repeat_penalty`` holds back, as
    llama.cpp's sampler does: positive logits are divided by it, others multiplied.
    """
    if repeat_penalty != 1.0:
        logits = logits.copy()
        recent = np.unique(np.asarray(recent_ids, dtype=np.int64))
        values = logits[recent]
        logits[recent] = np.where(values > 0, values / repeat_penalty, values * repeat_penalty)
    best = logits.max()
    threshold = best - MARGIN * (best - logits.mean())
    return int(np.count_nonzero(logits >= threshold)) > 1

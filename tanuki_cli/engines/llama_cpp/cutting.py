"""How a prompt is cut into computations.

llama.cpp rounds by how many ids are computed together: kernels for one id differ from those for a few, and
those from the ones for many. So that a prompt gives the same numbers in any company, and whatever of it is
there already, it is cut at whole batches, and nothing of it is ever computed in a small part.
"""

from typing import Final

MANY: Final = 8
"""From so many ids on, computed together, they give the same numbers (AVX2; with Q8_0 from 2 on)."""
_LAST: Final = 3 * MANY
"""Fewer ids than this at the end of a prompt are computed at once."""


def reusable(length: int, total: int, *, n_batch: int) -> int:
    """How many of ``length`` ids that are there to keep, of a text of ``total``: the last is always
    computed, since its logits are not there, and never with too few before it."""
    length = max(0, min(length, total - MANY))
    border = (length // n_batch + 1) * n_batch
    return length if total - length < _LAST else min(length, border - MANY)


def chunk_size(done: int, total: int, *, n_batch: int, most: int) -> int:
    """How many ids of a text of ``total`` to compute after the first ``done``; about ``most`` of them."""
    end = total if total - done < _LAST else min(total, (done // n_batch + 1) * n_batch)
    size = end - done
    if 0 < total - end < MANY:
        size -= MANY
    if size <= most:
        return size
    return most if size - most >= MANY else size - MANY

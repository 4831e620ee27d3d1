"""How the next token is chosen."""

import secrets
from dataclasses import dataclass, replace
from typing import Final

MAX_SEED: Final = 2**32 - 2
"""Largest seed every engine takes (llama.cpp reserves 2**32 - 1 for "random")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """Sampling as the model card sets it; everything else is off.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repeat_penalty`` 1 are
    off. ``stop`` texts end the answer and are not part of it. ``seed`` None lets
    :meth:`with_seed` draw one, so that every answer can be repeated.
    """

    temperature: float = 0.5
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0.0

    def with_seed(self) -> "SamplingOptions":
        """The same options with a seed; a missing one is drawn at random."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(MAX_SEED))

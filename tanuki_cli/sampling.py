"""How the next token is chosen."""

import os
from typing import Annotated, Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.i18n import N_
from tanuki_cli.options import OptionSpec, specs_of

MAX_SEED: Final = 2**32 - 2
"""Largest seed every engine takes (llama.cpp reserves 2**32 - 1 for "random")."""
MAX_CONTEXT_LENGTH: Final = 1 << 20
_GREEDY_BELOW: Final = 1e-6
"""A temperature under which the scaled logits would overflow; nothing but the best is left there."""


class SamplingOptions(Struct, frozen=True, kw_only=True):
    """Sampling as the model card sets it; everything else is off.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repeat_penalty`` 1 are
    off. ``stop`` texts end the answer and are not part of it. ``seed`` None lets
    :meth:`with_seed` draw one, so that every answer can be repeated.
    """

    temperature: Annotated[
        float,
        OptionSpec(
            help=N_("0 always takes the likeliest token; higher is more varied."),
            minimum=0,
            maximum=2,
            usual=0.5,
            scope="sampling",
        ),
    ] = 0.5
    top_p: Annotated[
        float,
        OptionSpec(
            help=N_("Choose among the tokens that make up this share of the probability; 1 is off."),
            minimum=0,
            maximum=1,
            usual=0.9,
            scope="sampling",
        ),
    ] = 1.0
    top_k: Annotated[
        int,
        OptionSpec(
            help=N_("Choose among this many of the likeliest tokens; 0 is off."),
            minimum=0,
            maximum=100000,
            usual=40,
            scope="sampling",
        ),
    ] = 0
    min_p: Annotated[
        float,
        OptionSpec(
            help=N_("Leave out tokens less likely than this share of the best; 0 is off."),
            minimum=0,
            maximum=1,
            usual=0.05,
            scope="sampling",
        ),
    ] = 0.0
    repeat_penalty: Annotated[
        float,
        OptionSpec(
            help=N_("Make recent tokens less likely; 1 is off."),
            minimum=0.1,
            maximum=10,
            usual=1.1,
            scope="sampling",
        ),
    ] = 1.0
    max_new_tokens: Annotated[
        int,
        OptionSpec(
            help=N_("Longest answer in tokens."),
            minimum=1,
            maximum=MAX_CONTEXT_LENGTH,
            usual=1024,
            scope="sampling",
        ),
    ] = 1024
    stop: Annotated[
        tuple[str, ...],
        OptionSpec(help=N_("End the answer before this text (repeatable)."), scope="sampling"),
    ] = ()
    seed: Annotated[
        int | None,
        OptionSpec(
            help=N_("Makes the answer repeatable."), minimum=0, maximum=MAX_SEED, usual=1, scope="sampling"
        ),
    ] = None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken, as every local engine sees it."""
        return self.temperature < _GREEDY_BELOW

    def with_seed(self) -> "SamplingOptions":
        """The same options with a seed; a missing one is drawn at random."""
        return self if self.seed is not None else replace(self, seed=_random_seed())


def _random_seed() -> int:
    return int.from_bytes(os.urandom(8), "big") % MAX_SEED


SAMPLING_SPECS: Final = specs_of(SamplingOptions)

"""How fast a way of computing a model was found to be, and which is the faster for a use. Pure.

A use is counted as questions of 128 tokens with answers of 128 after one load: one of them, the ten of a
chat, or a hundred that need not wait for each other. What takes long to load must earn that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tanuki_cli.engines.base import Use

QUESTIONS: Final[Mapping[Use, int]] = {"once": 1, "chat": 10, "many": 100}
PROMPT_TOKENS: Final = 128
ANSWER_TOKENS: Final = 128
_AT_ONCE: Final = 16
"""The most answers that are computed together on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Seconds of a load, of one token of a prompt and of one of an answer. ``costs`` pairs the size of a
    batch with its time in single steps; the first is one of size 1."""

    load_s: float
    prompt_s: float
    step_s: float
    costs: tuple[tuple[int, float], ...] = ((1, 1.0),)


def seconds_of(use: Use, speed: Speed) -> float:
    """What ``use`` takes; many answers are computed several together, where that pays."""
    step_s = speed.step_s
    if use == "many":
        step_s *= min(cost / size for size, cost in speed.costs if size <= _AT_ONCE)
    each = PROMPT_TOKENS * speed.prompt_s + ANSWER_TOKENS * step_s
    return speed.load_s + QUESTIONS[use] * each

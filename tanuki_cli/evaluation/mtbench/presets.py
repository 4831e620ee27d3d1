"""How answers are generated: what the teams that published scores used."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from tanuki_cli.sampling import SamplingOptions


class Preset(Struct, frozen=True, kw_only=True):
    """How answers are generated: temperatures by category, the rest for all; 0 is greedy."""

    name: str
    temperatures: Mapping[str, float]
    top_p: float = 1.0
    repeat_penalty: float = 1.0
    max_new_tokens: int = 1024
    other_temperature: float = 0.7

    def options(self, category: str, choice: int) -> SamplingOptions:
        """The options of one choice, whose seed is its index."""
        return SamplingOptions(
            temperature=self.temperatures.get(category, self.other_temperature),
            top_p=self.top_p,
            repeat_penalty=self.repeat_penalty,
            max_new_tokens=self.max_new_tokens,
            seed=choice,
        )


PRESETS: Final[Mapping[str, Preset]] = {
    "card": Preset(
        name="card",
        temperatures={
            **dict.fromkeys(("writing", "roleplay"), 0.7),
            **dict.fromkeys(("stem", "humanities"), 0.1),
            **dict.fromkeys(("math", "reasoning", "coding", "extraction"), 0.0),
        },
    ),
    "jp-stable": Preset(
        name="jp-stable",
        temperatures={
            **dict.fromkeys(("writing", "roleplay"), 0.5),
            **dict.fromkeys(("extraction", "stem", "humanities"), 0.2),
            **dict.fromkeys(("math", "reasoning", "coding"), 0.1),
        },
        top_p=0.9,
        repeat_penalty=1.1,
        max_new_tokens=512,
    ),
}
"""``card`` is what Tanuki's own team used for its model card, ``jp-stable`` FastChat's Japanese branch."""

"""What somebody may have meant who typed a name that does not exist."""

import difflib
from collections.abc import Collection, Mapping
from typing import Final

_LEAST_PREFIX: Final = 2
_NEAR: Final = 0.7


def suggest(word: str, known: Collection[str], *, habits: Mapping[str, str] | None = None) -> str | None:
    """The name that ``word`` begins; else what other tools call so; else one of the same letters, or one
    spelled nearly so; else None.

    ``habits`` are words of other tools, and what they are here; what is not among ``known`` is only said
    where it is a whole line, with a blank in it.
    """
    if len(word) >= _LEAST_PREFIX and (longer := [name for name in known if name.startswith(word)]):
        return min(longer, key=len)
    habit = (habits or {}).get(word)
    if habit is not None and (habit in known or " " in habit):
        return habit
    swapped = next((name for name in known if sorted(name) == sorted(word)), None)
    if swapped is not None:  # in a short word two letters that changed places are much of it
        return swapped
    near = difflib.get_close_matches(word, known, n=1, cutoff=_NEAR)
    return near[0] if near else None

"""GGUF models that were split into several files: ``name-00001-of-00003.gguf`` and so on, side by side."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_MAX_PARTS: Final = 999


def part_names(name: str) -> Sequence[str]:
    """The names of all parts of the model that a file of this name is a part of, in order.

    ``name`` alone if it is not the name of a part. Folders before the name stay.
    """
    match = _PART.fullmatch(name)
    if match is None or not 0 < int(match[2]) <= int(match[3]) <= _MAX_PARTS:
        return (name,)
    count = int(match[3])
    return [f"{match[1]}-{index:05}-of-{count:05}.gguf" for index in range(1, count + 1)]


def whole_models(names: Iterable[str]) -> list[Sequence[str]]:
    """The GGUF models among files of these names, sorted, each with all its parts; a model of which a part
    is not there is left out."""
    known = set(names)
    ggufs = sorted(name for name in known if name.endswith(".gguf"))
    models = {parts[0]: parts for parts in map(part_names, ggufs)}
    return [parts for parts in models.values() if known.issuperset(parts)]

"""JSON from strangers: bounded before it is parsed, and read field by field.

A field that is null is absent; one of a wrong type or out of range is an error that names it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tanuki_cli.server.faults import ApiError, wrong

MAX_DEPTH: Final = 64
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]+|[\]}]+', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one object. ``path`` is where it stands in the request: ``messages[2].``."""

    values: Mapping[str, object]
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether the field is there, and not null."""
        return self.values.get(name) is not None

    def raw(self, name: str) -> Any:
        """The value as it was parsed."""
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        """A text. What is half of a character in it, as JavaScript cuts it, becomes U+FFFD."""
        value = self.values.get(name)
        return None if value is None else as_text(value, self.path + name)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(self.path + name, f"'{self.path}{name}' must be true or false.")
        return value

    def integer(self, name: str, minimum: int, maximum: int) -> int | None:
        """A whole number from ``minimum`` to ``maximum``; 4.0 is one."""
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self._out_of_range(name, "a whole number", minimum, maximum)
        return value

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        """A number from ``minimum`` to ``maximum``."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            self._out_of_range(name, "a number", minimum, maximum)
        return float(value)

    def part(self, name: str) -> "Fields | None":
        """An object within this one."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise wrong(self.path + name, f"'{self.path}{name}' must be an object.")
        return Fields(value, f"{self.path}{name}.")

    def items(self, name: str, *, most: int) -> Sequence[object] | None:
        """A list of at most so many."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong(self.path + name, f"'{self.path}{name}' must be a list.")
        if len(value) > most:
            raise wrong(self.path + name, f"'{self.path}{name}' has more than {most} items.")
        return value

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """One text, or a list of them; empty where there is none."""
        value = self.values.get(name)
        if isinstance(value, str):
            return (as_text(value, self.path + name),)
        found = self.items(name, most=most) or ()
        return tuple(as_text(item, f"{self.path}{name}[{index}]") for index, item in enumerate(found))

    def _out_of_range(self, name: str, what: str, minimum: float, maximum: float) -> NoReturn:
        raise wrong(self.path + name, f"'{self.path}{name}' must be {what} from {minimum} to {maximum}.")


def as_text(value: object, name: str) -> str:
    """``value``, which must be a text; ``name`` is what errors call it."""
    if not isinstance(value, str):
        raise wrong(name, f"'{name}' must be a string.")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)


def is_ids(value: object) -> bool:
    """Whether ``value`` is a list of whole numbers, and not empty."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def read_object(body: bytes) -> Fields:
    """The JSON object that ``body`` is. Raises ApiError, 400, for anything else."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ApiError(400, "The body of the request is not UTF-8.") from exc
    if _depth(text) > MAX_DEPTH:
        raise ApiError(400, f"The JSON of the request is nested more than {MAX_DEPTH} deep.")
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        raise ApiError(400, "The body of the request is not valid JSON.") from exc
    if not isinstance(value, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    return Fields(value)


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        first, length = match[0][0], len(match[0])
        if first in "[{":
            depth += length
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                return deepest
        elif first in "]}":
            depth -= length
    return deepest


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value

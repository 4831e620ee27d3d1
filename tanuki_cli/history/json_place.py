"""Reading JSON that others may have written: every value is checked, every error names its place."""

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from tanuki_cli.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_ID: Final = re.compile("[0-9a-f]{16}")
MAX_INTEGER: Final = 2**63 - 1


def is_id(value: object) -> bool:
    """Whether ``value`` is an id as we make them."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class Place(Struct, frozen=True):
    """A value in a JSON document and the way to it, such as ``.conversations[0].title``.

    Every method raises ValueError with the way and what should be there.
    """

    value: object
    path: str = ""

    def get(self, key: str) -> "Place":
        """The value under ``key`` of an object."""
        if not isinstance(self.value, dict) or key not in self.value:
            raise self._error(_("{key!r} is missing").format(key=key))
        return Place(self.value[key], f"{self.path}.{key}")

    def find(self, key: str) -> "Place | None":
        """The value under ``key`` of an object; None where it is missing, as before the key was known."""
        return self.get(key) if not isinstance(self.value, dict) or key in self.value else None

    def maybe(self, key: str, read: "Callable[[Place], T]") -> T | None:
        """What ``read`` makes of the value under ``key``; None where it is missing or null."""
        place = self.find(key)
        return None if place is None else place.optional(read)

    def items(self) -> "list[Place]":
        """The values of a list."""
        if not isinstance(self.value, list):
            raise self._error(_("a list should be there"))
        return [Place(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def optional(self, read: "Callable[[Place], T]") -> T | None:
        """What ``read`` makes of the value; None for null."""
        return None if self.value is None else read(self)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self._error(_("text should be there"))
        return self.value

    def choice(self, choices: tuple[Any, ...]) -> Any:
        """One of the strings ``choices``."""
        if self.value not in choices:
            raise self._error(_("one of {choices} should be there").format(choices=", ".join(choices)))
        return self.value

    def id(self) -> str:
        """An id of 16 hexadecimal digits."""
        if not is_id(self.value):
            raise self._error(_("an id of 16 hexadecimal digits should be there"))
        return self.text()

    def integer(self) -> int:
        """A whole number that is not negative and that the database can hold."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
            raise self._error(_("a whole number should be there"))
        return value

    def number(self) -> float:
        """A finite number that is not negative."""
        value = self.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
            return float(value)
        raise self._error(_("a number should be there"))

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self._error(_("true or false should be there"))
        return self.value

    def texts(self) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(item.text() for item in self.items())

    def time(self) -> datetime:
        """A time with its zone, in ISO 8601."""
        error = self._error(_("a time such as 2026-01-31T12:00:00+00:00 should be there"))
        try:
            value = datetime.fromisoformat(self.text())
        except ValueError as exc:
            raise error from exc
        if value.tzinfo is None:
            raise error
        return value

    def _error(self, expected: str) -> ValueError:
        return ValueError(f"{self.path}: {expected}" if self.path else expected)

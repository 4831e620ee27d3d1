"""The fields of a request, read one by one.

A field that is null is absent; one of a wrong type or out of range is an error that names it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import N_, _

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NONE: Final[Mapping[str, object]] = {}


class RequestError(InputError):
    """The field ``param`` of a request cannot be used.

    ``template`` is a message id, in which ``{name}`` is that field. ``english`` is the same sentence for
    programs, which compare it.
    """

    def __init__(self, param: str, template: str, values: Mapping[str, object] = _NONE) -> None:
        shown = {"name": param, **{key: brief(value) for key, value in values.items()}}
        super().__init__(_(template).format_map(shown))
        self.param = param
        self.english = template.format_map(shown)


class Fields(Struct, frozen=True):
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
            raise self._wrong(name, N_("'{name}' must be true or false."))
        return value

    def integer(self, name: str, minimum: int, maximum: int | None = None) -> int | None:
        """A whole number of at least ``minimum``, and at most ``maximum`` where there is one; 4.0 is one."""
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            most = value if maximum is None else maximum
            if minimum <= value <= most:
                return value
        bounds: Mapping[str, object] = {"minimum": minimum, "maximum": maximum}
        if maximum is None:
            raise self._wrong(name, N_("'{name}' must be a whole number of at least {minimum}."), bounds)
        raise self._wrong(name, N_("'{name}' must be a whole number from {minimum} to {maximum}."), bounds)

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        """A number from ``minimum`` to ``maximum``."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            bounds: Mapping[str, object] = {"minimum": minimum, "maximum": maximum}
            raise self._wrong(name, N_("'{name}' must be a number from {minimum} to {maximum}."), bounds)
        return float(value)

    def part(self, name: str) -> "Fields | None":
        """An object within this one."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(name, N_("'{name}' must be an object."))
        return Fields(value, f"{self.path}{name}.")

    def items(self, name: str, *, most: int) -> Sequence[object] | None:
        """A list of at most so many."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._wrong(name, N_("'{name}' must be a list."))
        if len(value) > most:
            raise self._wrong(name, N_("'{name}' has more than {most} items."), {"most": most})
        return value

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """One text, or a list of them; empty where there is none."""
        value = self.values.get(name)
        if isinstance(value, str):
            return (as_text(value, self.path + name),)
        found = self.items(name, most=most) or ()
        return tuple(as_text(item, f"{self.path}{name}[{index}]") for index, item in enumerate(found))

    def _wrong(self, name: str, template: str, values: Mapping[str, object] = _NONE) -> RequestError:
        return RequestError(self.path + name, template, values)


def as_text(value: object, name: str) -> str:
    """``value``, which must be a text; ``name`` is what errors call it."""
    if not isinstance(value, str):
        raise RequestError(name, N_("'{name}' must be a string."))
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)

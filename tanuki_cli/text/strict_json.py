"""JSON as the standard has it, which Python's own reader takes more loosely; bounded before it is parsed."""

import json
import math
import re
from typing import Any, Final, NoReturn

from tanuki_cli.i18n import _

MAX_DEPTH: Final = 100
"""Objects and arrays within one another."""
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]+|[\]}]+', re.DOTALL)


class NestedTooDeepError(ValueError):
    """A text that is nested more than MAX_DEPTH deep."""


def strict_loads(text: str) -> Any:
    """The value that ``text`` is.

    Raises ValueError for what is no JSON: NaN and Infinity, too, and numbers too large for a float, which
    could not be written again; NestedTooDeepError for what is nested more than MAX_DEPTH deep.
    """
    if _is_deep(text):
        raise NestedTooDeepError(f"it is nested more than {MAX_DEPTH} deep")
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def json_fault(exc: Exception) -> str:
    """What was wrong with a text that was read as JSON, or with its values, as part of a sentence."""
    if isinstance(exc, json.JSONDecodeError):
        return _("it is not valid JSON (line {line}, character {column})").format(
            line=exc.lineno, column=exc.colno
        )
    return _("it is nested too deeply") if isinstance(exc, RecursionError) else str(exc)


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _BRACKETS.finditer(text):
        first, length = match[0][0], len(match[0])
        if first in "[{":
            depth += length
            if depth > MAX_DEPTH:
                return True
        elif first in "]}":
            depth -= length
    return False


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value

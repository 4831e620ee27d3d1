"""JSON as the standard has it, which Python's own reader takes more loosely."""

import json
import math
from typing import Any, NoReturn


def strict_loads(text: str) -> Any:
    """The value that ``text`` is.

    Raises ValueError for what is no JSON: NaN and Infinity, too, and numbers too large for a float, which
    could not be written again. RecursionError where it is nested too deep.
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value

"""JSON from strangers: bounded before it is parsed."""

import re
from typing import Final

from tanuki_cli.protocol.fields import Fields
from tanuki_cli.server.faults import ApiError
from tanuki_cli.text.strict_json import strict_loads

MAX_DEPTH: Final = 64
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]+|[\]}]+', re.DOTALL)


def read_object(body: bytes) -> Fields:
    """The JSON object that ``body`` is. Raises ApiError, 400, for anything else."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ApiError(400, "The body of the request is not UTF-8.") from exc
    if _depth(text) > MAX_DEPTH:
        raise ApiError(400, f"The JSON of the request is nested more than {MAX_DEPTH} deep.")
    try:
        value = strict_loads(text)
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

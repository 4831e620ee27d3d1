"""JSON from strangers."""

from tanuki_cli.protocol.fields import Fields
from tanuki_cli.server.faults import ApiError
from tanuki_cli.text.strict_json import MAX_DEPTH, NestedTooDeepError, strict_loads


def read_object(body: bytes) -> Fields:
    """The JSON object that ``body`` is. Raises ApiError, 400, for anything else."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ApiError(400, "The body of the request is not UTF-8.") from exc
    try:
        value = strict_loads(text)
    except NestedTooDeepError as exc:
        raise ApiError(400, f"The JSON of the request is nested more than {MAX_DEPTH} deep.") from exc
    except ValueError as exc:
        raise ApiError(400, "The body of the request is not valid JSON.") from exc
    if not isinstance(value, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    return Fields(value)

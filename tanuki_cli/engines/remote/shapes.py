"""Shapes in the words of each kind of server. What the server makes of them is checked when it is here."""

import json
import re
from collections.abc import Mapping
from typing import Final

from tanuki_cli.engines.answers import AnswerForm
from tanuki_cli.engines.remote.probe import Server
from tanuki_cli.engines.remote.tokens import AS_IDS
from tanuki_cli.engines.shapes import Shape, ShapeKind
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _

RESPONSE_FORMAT: Final = "response_format"
"""OpenAI's own name for JSON, at the chat endpoint only."""
_STRUCTURED_OUTPUTS_SINCE: Final = (0, 12)
"""The vLLM that took ``guided_json`` and its like away; the other name came shortly before."""
_VLLM_NAMES: Final = {"choices": "choice", "json_object": "json", "json_schema": "json"}


_OPTIONS: Final[Mapping[ShapeKind, str]] = {
    "json_schema": "--json-schema",
    "json_object": "--json-object",
    "choices": "--choices",
    "regex": "--regex",
    "grammar": "--grammar",
}


def form_fields(server: Server, form: AnswerForm, *, host: str, exact: bool) -> dict[str, object]:
    """The fields of a request that ask for ``form``; ``exact`` is whether token ids are sent.

    Raises RemoteError that names what this kind of server cannot be asked for.
    """
    probabilities = _probability_fields(server, form.logprobs) if exact else {}
    if form.logprobs and not probabilities:  # a text is no token
        raise cannot_be_asked(server, "--logprobs", host=host)
    if form.shape is None:
        return probabilities
    fields = _shape_fields(server, form.shape)
    if fields is None:
        raise cannot_be_asked(server, _OPTIONS[form.shape.kind], host=host)
    if form.begun:  # a server holds only what it writes itself to a shape
        both = f"{_OPTIONS[form.shape.kind]} + --prefill, --continue-answer"
        raise cannot_be_asked(server, both, host=host)
    return {**fields, **probabilities}


def cannot_be_asked(server: Server, option: str, *, host: str) -> RemoteError:
    """The error for what this kind of server lacks."""
    return RemoteError(
        _("{host} ({software}) cannot be asked for this: {option}").format(
            host=host, software=server.software, option=option
        ),
        hint=_("Use a model on this machine: tanuki models"),
    )


def _probability_fields(server: Server, count: int) -> dict[str, object]:
    if not count:
        return {}
    return {"n_probs": count} if server.kind == "llama-server" else {"logprobs": count, AS_IDS: True}


def _shape_fields(server: Server, shape: Shape) -> dict[str, object] | None:
    """None where this kind of server knows none."""
    if server.speaks_vllm:
        return _vllm(server, shape)
    if server.kind == "llama-server":
        if shape.is_json:
            return {"json_schema": json.loads(shape.text)}
        if shape.kind == "choices":
            return {"grammar": _gbnf(shape.choices)}
        return None
    return {RESPONSE_FORMAT: _response_format(shape)} if shape.is_json else None


def _response_format(shape: Shape) -> dict[str, object]:
    if shape.kind == "json_object":
        return {"type": "json_object"}
    schema = {"name": "answer", "schema": json.loads(shape.text), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _vllm(server: Server, shape: Shape) -> dict[str, object]:
    value: object = shape.text
    if shape.is_json:
        value = json.loads(shape.text)
    elif shape.kind == "choices":
        value = list(shape.choices)
    name = _VLLM_NAMES.get(shape.kind, shape.kind)
    version = tuple(map(int, re.findall(r"\d+", server.software)[:2]))
    if server.kind == "vllm" and version and version < _STRUCTURED_OUTPUTS_SINCE:
        return {f"guided_{name}": value}
    return {"structured_outputs": {name: value}}


def _gbnf(choices: tuple[str, ...]) -> str:
    # Its strings have JSON's escapes, but for \uXXXX, which a choice has no use for.
    return f"root ::= {' | '.join(json.dumps(choice, ensure_ascii=False) for choice in choices)}"

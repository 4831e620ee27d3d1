"""Requests in the form of OpenAI's Batch API: what of a body a local model can do, and nothing unsaid."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tanuki_cli.engines.answers import MAX_ALTERNATIVES, AnswerForm
from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions

if TYPE_CHECKING:
    from tanuki_cli.engines.shapes import Shape

ENDPOINT: Final = "/v1/chat/completions"
_SPEC_BY_KEY: Final = {spec.key: spec for spec in SAMPLING_SPECS}
_OPTIONS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "repetition_penalty": "repeat_penalty",
    "repeat_penalty": "repeat_penalty",
}
"""Their names here."""
_FORM: Final = ("response_format", "structured_outputs", "logprobs", "top_logprobs")
_WITHOUT_EFFECT: Final = frozenset(
    (
        "messages",
        "model",
        "user",
        "metadata",
        "store",
        "service_tier",
        "stream_options",
        "parallel_tool_calls",
    )
)
_OFF: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "stream": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}
"""What is taken only where it asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request asks; ``messages`` as they stand there."""

    messages: object
    options: SamplingOptions
    form: AnswerForm


def read_body(fields: Mapping[str, Any], options: SamplingOptions, form: AnswerForm) -> Body:
    """The request in ``fields``, with ``options`` and ``form`` where it says nothing.

    Raises InputError, or ValueError with a sentence, for what it asks that cannot be done.
    """
    if fields.get("url", ENDPOINT) != ENDPOINT or fields.get("method", "POST") != "POST":
        raise InputError(_("only POST {url} is answered").format(url=ENDPOINT))
    body = fields.get("body")
    if not isinstance(body, Mapping):
        raise InputError(_("it has no body"))
    for name, value in body.items():
        known = name in _OPTIONS or name in _FORM or name in _WITHOUT_EFFECT
        if not known and value is not None and value not in _OFF.get(name, ()):
            raise InputError(_("{name} is not supported").format(name=brief(name)))
    return Body(messages=body.get("messages"), options=_options(body, options), form=_form(body, form))


def _options(body: Mapping[str, Any], options: SamplingOptions) -> SamplingOptions:
    changes: dict[str, Any] = {}
    for name, key in _OPTIONS.items():
        value = body.get(name)
        if value is None:
            continue
        if key == "stop" and isinstance(value, str):
            value = [value]
        if key == "top_k" and value == -1:  # vLLM's word for off
            value = 0
        changes[key] = check_value(_SPEC_BY_KEY[key], value)
    return replace(options, **changes)


def _form(body: Mapping[str, Any], form: AnswerForm) -> AnswerForm:
    wanted = body.get("logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise _unusable("logprobs")
    if wanted:
        count = body.get("top_logprobs") or 1
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_ALTERNATIVES:
            raise _unusable("top_logprobs")
        form = replace(form, logprobs=count)
    given = [name for name in _SHAPES if body.get(name) is not None]
    if len(given) > 1:
        raise InputError(
            _("{first} and {second} cannot be used together.").format(first=given[0], second=given[1])
        )
    if not given or body[given[0]] == {"type": "text"}:
        return form
    kind, text = _SHAPES[given[0]](body[given[0]])
    return replace(form, shape=_shape(kind, text, given[0]))


def _response_format(value: object) -> tuple[str, str]:
    """The kind of a shape and its text."""
    asked = value if isinstance(value, Mapping) else {}
    if asked.get("type") == "json_object":
        return "json_object", ""
    described = asked.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if asked.get("type") != "json_schema" or schema is None:
        raise _unusable("response_format")
    return "json", json.dumps(schema, ensure_ascii=False)


def _structured_outputs(value: object) -> tuple[str, str]:
    """The same for vLLM's words."""
    asked = {kind: entry for kind, entry in value.items() if entry} if isinstance(value, Mapping) else {}
    kind, entry = next(iter(asked.items()), ("", None))
    text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
    if len(asked) != 1 or kind not in ("json", "choice", "regex", "grammar"):
        raise _unusable("structured_outputs")
    if kind == "choice" and not (isinstance(entry, list) and all(isinstance(one, str) for one in entry)):
        raise _unusable("structured_outputs")
    return kind, text


_SHAPES: Final = {"response_format": _response_format, "structured_outputs": _structured_outputs}


@lru_cache(maxsize=64)
def _shape(kind: str, text: str, name: str) -> "Shape":
    """Rows mostly ask for the same: reading a shape takes a while."""
    from tanuki_cli.engines.shapes import reading  # most requests ask for none

    if kind == "json_object":
        return reading.any_object()
    if kind == "choice":
        return reading.choices(json.loads(text), name=name)
    read = {"json": reading.json_schema, "regex": reading.regex, "grammar": reading.grammar}[kind]
    return read(text, name=name)


def _unusable(name: str) -> InputError:
    return InputError(_("{name} cannot be used as it is").format(name=name))

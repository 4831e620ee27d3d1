"""The shape that a request asks for, in any of the words that OpenAI, vLLM and llama-server have for it."""

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tanuki_cli.i18n import N_
from tanuki_cli.protocol.fields import Fields, RequestError, as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tanuki_cli.engines.shapes import Shape

MAX_CHOICES: Final = 10_000
Found = list[tuple[str, "Callable[[], Shape]"]]


def read_shape(request: Fields) -> "Shape | None":
    """The shape, checked; None where there is none.

    Raises RequestError for two of them, InputError for one that is not supported.
    """
    found = [*_openai(request), *_vllm(request, "guided_"), *_llama_server(request)]
    structured = request.part("structured_outputs")
    if structured is not None:
        named = _vllm(structured, "")
        if not named:
            raise RequestError("structured_outputs", N_("'{name}' names no shape that is supported."))
        found += named
    if len(found) > 1:
        raise RequestError(
            found[1][0],
            N_("An answer has one shape, but the request asks for several: {names}."),
            {"names": ", ".join(name for name, _make in found)},
        )
    return found[0][1]() if found else None


def _openai(request: Fields) -> Found:
    wanted = request.part("response_format")
    if wanted is None:
        return []
    kind = wanted.text("type")
    if kind == "text":
        return []
    name = "response_format"
    if kind == "json_schema":
        inner = wanted.part("json_schema")
        schema = inner.raw("schema") if inner is not None else wanted.raw("schema")
        return [(name, lambda: _schema(schema, f"{name}.json_schema.schema"))]
    if kind != "json_object":
        raise RequestError(f"{name}.type", N_("'{name}' must be one of: text, json_object, json_schema."))
    if (schema := wanted.raw("schema")) is not None:  # llama-server's way
        return [(name, lambda: _schema(schema, f"{name}.schema"))]
    return [(name, lambda: _shape("json_object", "", name))]


def _vllm(fields: Fields, prefix: str) -> Found:
    found: Found = []
    if fields.has(f"{prefix}json"):
        schema, name = fields.raw(f"{prefix}json"), f"{fields.path}{prefix}json"
        found.append((name, lambda: _schema(schema, name)))
    if fields.flag(f"{prefix}json_object"):
        whole = f"{fields.path}{prefix}json_object"
        found.append((whole, lambda: _shape("json_object", "", whole)))
    if fields.has(f"{prefix}choice"):
        choice = f"{fields.path}{prefix}choice"
        items = fields.items(f"{prefix}choice", most=MAX_CHOICES) or ()
        answers = [as_text(item, f"{choice}[{index}]") for index, item in enumerate(items)]
        found.append((choice, lambda: _shape("choice", json.dumps(answers), choice)))
    if (pattern := fields.text(f"{prefix}regex")) is not None:
        regex = f"{fields.path}{prefix}regex"
        found.append((regex, lambda: _shape("regex", pattern, regex)))
    if (text := fields.text(f"{prefix}grammar")) is not None:
        grammar = f"{fields.path}{prefix}grammar"
        found.append((grammar, lambda: _shape("grammar", text, grammar)))
    return found


def _llama_server(request: Fields) -> Found:
    if request.has("grammar"):
        raise RequestError(
            "grammar", N_("'{name}' is GBNF, which is not taken; 'guided_grammar' takes Lark.")
        )
    if not request.has("json_schema"):
        return []
    schema = request.raw("json_schema")
    return [("json_schema", lambda: _schema(schema, "json_schema"))]


def _schema(value: Any, name: str) -> "Shape":
    """A schema, as an object or as the text of one."""
    if not isinstance(value, (dict, str)):
        raise RequestError(name, N_("'{name}' must be a JSON Schema."))
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else as_text(value, name)
    return _shape("json", text, name)


@lru_cache(maxsize=64)
def _shape(kind: str, text: str, name: str) -> "Shape":
    """Many requests ask for the same, and reading a shape takes a while."""
    from tanuki_cli.engines.shapes import reading  # most requests ask for none

    if kind == "json_object":
        return reading.any_object()
    if kind == "choice":
        return reading.choices(json.loads(text), name=name)
    read = {"json": reading.json_schema, "regex": reading.regex, "grammar": reading.grammar}[kind]
    return read(text, name=name)

"""The shape that a request asks for, in any of the words that OpenAI, vLLM and llama-server have for it."""

import json
from collections.abc import Callable
from typing import Any, Final

from tanuki_cli.engines.shapes import Shape, reading
from tanuki_cli.server.faults import wrong
from tanuki_cli.server.fields import Fields, as_text

MAX_CHOICES: Final = 10_000


def read_shape(request: Fields) -> Shape | None:
    """The shape, checked; None where there is none.

    Raises ApiError for two of them, InputError for one that is not supported.
    """
    found = [*_openai(request), *_vllm(request, "guided_"), *_llama_server(request)]
    structured = request.part("structured_outputs")
    if structured is not None:
        found += _vllm(structured, "")
    if len(found) > 1:
        names = ", ".join(name for name, _make in found)
        raise wrong(found[1][0], f"An answer has one shape, but the request asks for several: {names}.")
    return found[0][1]() if found else None


Found = list[tuple[str, Callable[[], Shape]]]


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
        raise wrong(f"{name}.type", f"'{name}.type' must be one of: text, json_object, json_schema.")
    if (schema := wanted.raw("schema")) is not None:  # llama-server's way
        return [(name, lambda: _schema(schema, f"{name}.schema"))]
    return [(name, reading.any_object)]


def _vllm(fields: Fields, prefix: str) -> Found:
    found: Found = []
    if fields.has(f"{prefix}json"):
        schema, name = fields.raw(f"{prefix}json"), f"{fields.path}{prefix}json"
        found.append((name, lambda: _schema(schema, name)))
    if fields.flag(f"{prefix}json_object"):
        found.append((f"{fields.path}{prefix}json_object", reading.any_object))
    if fields.has(f"{prefix}choice"):
        answers = fields.texts(f"{prefix}choice", most=MAX_CHOICES)
        choice = f"{fields.path}{prefix}choice"
        found.append((choice, lambda: reading.choices(answers, name=choice)))
    if (pattern := fields.text(f"{prefix}regex")) is not None:
        regex = f"{fields.path}{prefix}regex"
        found.append((regex, lambda: reading.regex(pattern, name=regex)))
    if (text := fields.text(f"{prefix}grammar")) is not None:
        grammar = f"{fields.path}{prefix}grammar"
        found.append((grammar, lambda: reading.grammar(text, name=grammar)))
    return found


def _llama_server(request: Fields) -> Found:
    if request.has("grammar"):
        raise wrong("grammar", "'grammar' is GBNF, which is not taken; 'guided_grammar' takes Lark.")
    if not request.has("json_schema"):
        return []
    schema = request.raw("json_schema")
    return [("json_schema", lambda: _schema(schema, "json_schema"))]


def _schema(value: Any, name: str) -> Shape:
    """A schema, as an object or as the text of one."""
    if isinstance(value, dict):
        return reading.json_schema(json.dumps(value, ensure_ascii=False), name=name)
    return reading.json_schema(as_text(value, name), name=name)

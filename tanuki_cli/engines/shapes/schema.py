"""What a JSON Schema says: which of its keywords are not supported, and how it describes itself."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, Final
from urllib.parse import quote, unquote

from tanuki_cli.engines.shapes.shape import Shape

MAX_DEPTH: Final = 64
_URI: Final = "%/:=&?~#+!$,;'@()*[]"

_ONE_SCHEMA: Final = frozenset(("additionalItems", "additionalProperties", "items"))
_SCHEMA_LISTS: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED_SCHEMAS: Final = frozenset(("$defs", "definitions", "patternProperties", "properties"))
_ENFORCED: Final = frozenset(
    [
        "$ref",
        "const",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "required",
        "type",
    ]
)
_REMARKS: Final = frozenset(
    [
        "$anchor",
        "$comment",
        "$id",
        "$schema",
        "$vocabulary",
        "contentEncoding",
        "contentMediaType",
        "default",
        "deprecated",
        "description",
        "examples",
        "id",
        "readOnly",
        "title",
        "writeOnly",
    ]
)
"""Keywords that say something to people and rule nothing out."""
_KNOWN: Final = _ONE_SCHEMA | _SCHEMA_LISTS | _NAMED_SCHEMAS | _ENFORCED | _REMARKS


def unsupported_keywords(schema: object, *, depth: int = 0) -> Iterator[str]:
    """The keywords of ``schema``, and of all schemas in it, that are neither enforced nor remarks.

    Raises RecursionError where schemas are nested too deeply.
    """
    if not isinstance(schema, Mapping):
        return  # true, false, or wrong: whoever compiles it says so
    if depth > MAX_DEPTH:
        raise RecursionError(f"more than {MAX_DEPTH} schemas in one another")
    for key, value in schema.items():
        if key not in _KNOWN and (not key.startswith("x-") or key == "x-guidance"):
            yield key
        elif key in _SCHEMA_LISTS or (key in _ONE_SCHEMA and isinstance(value, list)):
            for part in value if isinstance(value, list) else ():
                yield from unsupported_keywords(part, depth=depth + 1)
        elif key in _ONE_SCHEMA:
            yield from unsupported_keywords(value, depth=depth + 1)
        elif key in _NAMED_SCHEMAS and isinstance(value, Mapping):
            for part in value.values():
                yield from unsupported_keywords(part, depth=depth + 1)


def with_quoted_references(schema: Any) -> Any:
    """``schema`` with references that are URIs: people write the names in them as they are."""
    if isinstance(schema, list):
        return [with_quoted_references(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: quote(value, safe=_URI)
        if key == "$ref" and isinstance(value, str)
        else value
        if key in ("const", "default", "enum", "examples")
        else with_quoted_references(value)
        for key, value in schema.items()
    }


def in_order(value: object, schema: object, root: Mapping[str, object]) -> object:
    """``value`` with the names of its objects in the order of the schema's, wherever that tells one.

    ``root`` is the whole schema, where references lead. What the schema does not name keeps its order.
    """
    found = list(_applying(schema, root, depth=0))
    if isinstance(value, list):
        rows = [part.get("items") for part in found]
        return [reduce(lambda one, row: in_order(one, row, root), rows, item) for item in value]
    if not isinstance(value, dict):
        return value
    named: dict[str, list[object]] = {}
    for part in found:
        for name, inner in _parts(part):
            named.setdefault(name, []).append(inner)
        for name in part.get("required", ()) if isinstance(part.get("required"), list) else ():
            named.setdefault(name, [])
    ordered = {name: value[name] for name in (*named, *value) if name in value}
    return {
        name: reduce(lambda one, inner: in_order(one, inner, root), named.get(name, []), item)
        for name, item in ordered.items()
    }


def _applying(schema: object, root: Mapping[str, object], *, depth: int) -> Iterator[Mapping[str, Any]]:
    """``schema`` and what it refers to or combines at the same place."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        yield from _applying(_referred(reference, root), root, depth=depth + 1)
    yield schema
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key) or ():
            yield from _applying(part, root, depth=depth + 1)


def _referred(reference: str, root: Mapping[str, object]) -> object:
    place: object = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        place = place.get(name) if isinstance(place, Mapping) else None
    return place


def explanation(shape: Shape) -> str:
    """The schema in words for the prompt: the title and description of every field, and its choices.

    Empty for another kind, and where the schema says nothing about itself.
    """
    if shape.kind != "json_schema":
        return ""
    return "\n".join(_described(json.loads(shape.text), "", depth=0))


def _described(schema: object, path: str, *, depth: int) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return
    words = [schema[key] for key in ("title", "description") if isinstance(schema.get(key), str)]
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        words.append(" / ".join(json.dumps(value, ensure_ascii=False) for value in allowed))
    if words:
        yield f"- {path}: {' — '.join(words)}" if path else " — ".join(words)
    for name, part in _parts(schema):
        yield from _described(part, f"{path}.{name}".strip("."), depth=depth + 1)
    if isinstance(items := schema.get("items"), Mapping):
        yield from _described(items, f"{path}[]", depth=depth + 1)


def _parts(schema: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    properties = schema.get("properties")
    return properties.items() if isinstance(properties, Mapping) else ()

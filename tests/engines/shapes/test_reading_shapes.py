"""Which shapes are taken, and what is said of the others: nothing of a schema is ignored."""

import json

import pytest

from tanuki_cli.engines.shapes import reading
from tanuki_cli.engines.shapes.schema import explanation
from tanuki_cli.errors import InputError


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "uniqueItems": True}, ["uniqueItems"]),
        ({"not": {"type": "string"}}, ["not"]),
        ({"if": {}, "then": {}, "else": {}}, ["else", "if", "then"]),
        ({"properties": {"あ": {"items": {"contains": {}}}}}, ["contains"]),
        ({"$defs": {"a": {"propertyNames": {}}}, "$ref": "#/$defs/a"}, ["propertyNames"]),
        (
            {"anyOf": [{"dependentRequired": {}}, {"unevaluatedItems": False}]},
            ["dependentRequired", "unevaluatedItems"],
        ),
        ({"type": "string", "maxlength": 3}, ["maxlength"]),
        ({"type": "string", "nullable": True}, ["nullable"]),
        ({"type": "string", "x-guidance": {"lenient": True}}, ["x-guidance"]),
        ({"items": [{"minContains": 1}]}, ["minContains"]),
        ({"additionalProperties": {"$dynamicRef": "#a"}}, ["$dynamicRef"]),
    ],
)
def test_unsupported_keywords_are_named(schema: object, named: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        reading.json_schema(json.dumps(schema))
    assert f": {', '.join(named)}." in caught.value.message


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"type": "string", "format": "hiragana"}, "hiragana"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "pattern": "("}, "unclosed"),
        ({"type": "strin"}, "strin"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
        ({"type": "number", "minimum": 5, "maximum": 1}, "minimum"),
        ({"enum": []}, "empty"),
        ({"const": "a\0b"}, "control characters"),
        ({"properties": {"\x1f": {}}}, "control characters"),
        ({"enum": ["\x7f"]}, "control characters"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(schema: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        reading.json_schema(json.dumps(schema))


@pytest.mark.parametrize("text", ["", "{", "[]", "true", '"x"', "null", "[" * 100_000])
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--json-schema"):
        reading.json_schema(text)


def test_a_bottomless_schema_is_refused() -> None:
    schema: dict[str, object] = {}
    for _level in range(200):
        schema = {"items": schema}
    with pytest.raises(InputError, match="nested too deeply"):
        reading.json_schema(json.dumps(schema))


@pytest.mark.parametrize("text", ["\n\t\b\f\r", "\\u0000", "\x80", "\u2028", "\ufeff"])
def test_other_odd_characters_come_as_they_are(text: str) -> None:
    shape = reading.json_schema(json.dumps({"const": text}))
    assert reading.fits(shape, json.dumps(text, ensure_ascii=False))


def test_remarks_and_vendor_keywords_rule_nothing_out() -> None:
    remarks = {
        "title": "題",
        "description": "説明",
        "default": 1,
        "examples": [1],
        "$comment": "x",
        "x-order": 3,
    }
    shape = reading.json_schema(json.dumps({**remarks, "type": "integer"}))
    assert reading.fits(shape, "12")
    assert not reading.fits(shape, '"12"')


@pytest.mark.parametrize(
    ("make", "argument", "name"),
    [
        (reading.regex, "(", "--regex"),
        (reading.regex, "a(?!b)", "--regex"),
        (reading.regex, "", "--regex"),
        (reading.grammar, "", "--grammar"),
        (reading.grammar, "start: missing", "--grammar"),
        (reading.choices, [], "--choices"),
        (reading.choices, ["はい", " "], "--choices"),
    ],
)
def test_other_shapes_are_checked_too(make: object, argument: object, name: str) -> None:
    with pytest.raises(InputError, match=name):
        make(argument)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "here", "elsewhere"),
    [
        ('{"名":"狸"}', True, True),
        ('{ "名" :\n "狸" }', True, True),
        ('{"名":"\\n\\"\\\\"}', True, True),
        ('{"名":"\\u72f8"}', False, True),
        ("{" + " " * 17 + '"名":"狸"}', False, True),
        ('{"名":"狸"', False, False),
        ('{"名":1}', False, False),
        ('{"名":"狸"} ', False, True),
        ('{"齢":1,"名":"狸"}', False, True),
        ('{"名":NaN}', False, False),
        ("[" * 100_000, False, False),
        ("", False, False),
        ('{"名":"\ud800"}', False, False),
    ],
)
def test_what_fits_here_and_what_a_server_may_send(text: str, here: bool, elsewhere: bool) -> None:
    shape = reading.json_schema('{"properties":{"名":{"type":"string"}},"type":"object","required":["名"]}')
    assert reading.fits(shape, text) is here
    assert reading.fits(shape, text, as_data=True) is elsewhere


def test_a_schema_is_put_into_words() -> None:
    schema = {
        "description": "たぬきの記録",
        "properties": {
            "名前": {"title": "名", "description": "呼び名"},
            "毛色": {"enum": ["茶", "黒"]},
            "旅": {"items": {"properties": {"場所": {"description": "行き先"}}}},
            "体重": {"type": "number"},
        },
    }
    words = explanation(reading.json_schema(json.dumps(schema))).split("\n")
    assert words == ["たぬきの記録", "- 名前: 名 — 呼び名", '- 毛色: "茶" / "黒"', "- 旅[].場所: 行き先"]
    assert explanation(reading.any_object()) == ""

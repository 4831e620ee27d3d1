"""Where JSON is read that others wrote: one bound for how deep it goes, the same for every reader."""

import io
from collections.abc import Callable
from functools import partial

import pytest

from tanuki_cli.batch.rows import open_source
from tanuki_cli.engines.shapes import reading
from tanuki_cli.errors import InputError
from tanuki_cli.history.transfer import from_json
from tanuki_cli.server.body import read_object
from tanuki_cli.server.faults import ApiError
from tanuki_cli.text.strict_json import MAX_DEPTH, NestedTooDeepError, strict_loads

ALLOWED = '{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"
ONE_MORE = ALLOWED.replace("[]", "[[]]")
MANY_BESIDE = '{"a": [' + "[{}], " * MAX_DEPTH + "0]}"


def test_a_text_is_as_deep_as_its_brackets_outside_of_texts() -> None:
    inside = "[" * MAX_DEPTH * 2 + '\\"{'
    assert strict_loads(f'{{"a": "{inside}"}}') == {"a": inside.replace("\\", "")}
    assert strict_loads(ALLOWED)
    assert len(strict_loads(MANY_BESIDE)["a"]) == MAX_DEPTH + 1
    for text in (ONE_MORE, "[" * 100_000, '{"a":' * 50_000):
        with pytest.raises(NestedTooDeepError):
            strict_loads(text)


@pytest.mark.parametrize("read", [reading.json_schema, partial(from_json, name="x.json")])
def test_where_json_is_wrong_is_said_in_our_words(read: Callable[[str], object]) -> None:
    for text, words in (
        ('{"a": 1,\n "b" 2}', "it is not valid JSON (line 2, character 6)"),
        ("[" * 100_000, "it is nested too deeply"),
    ):
        with pytest.raises(InputError) as caught:
            read(text)
        assert caught.value.message.endswith(words)


def test_a_request_and_a_row_may_be_equally_deep() -> None:
    for text in (ALLOWED, MANY_BESIDE):
        assert read_object(text.encode()).has("a")
        [row] = open_source(io.BytesIO(text.encode()), name="in.jsonl").rows()
        assert not row.problem
    with pytest.raises(ApiError, match="deep"):
        read_object(ONE_MORE.encode())
    [row] = open_source(io.BytesIO(ONE_MORE.encode()), name="in.jsonl").rows()
    assert row.problem

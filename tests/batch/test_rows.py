"""Rows out of files: every form, every encoding, and what nobody would write on purpose."""

import io
import json

import pytest

from tanuki_cli.batch.rows import Row, RowForm, open_source
from tanuki_cli.batch.template import Template
from tanuki_cli.errors import InputError
from tanuki_cli.text.lines import MAX_LINE_CHARACTERS

JAPANESE = "信楽焼のたぬき、表「ソ」と申します。\n化けるのは狸。\n"


def rows(
    data: bytes, *, name: str = "in.txt", form: RowForm | None = None, encoding: str | None = None
) -> list[Row]:
    return list(open_source(io.BytesIO(data), name=name, form=form, encoding=encoding).rows())


def texts(found: list[Row]) -> list[object]:
    return [row.fields.get("text") for row in found]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932", "euc_jp", "iso2022_jp"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_rows_in_every_encoding(encoding: str, end: str) -> None:
    data = JAPANESE.replace("\n", end).encode(encoding)
    found = rows(data)
    assert texts(found) == JAPANESE.splitlines()
    assert [row.number for row in found] == [1, 2]
    assert not any(row.problem for row in found)


def test_blank_lines_are_no_rows_but_are_counted() -> None:
    assert [(row.number, row.fields["text"]) for row in rows(b"\n  \na\n\nb")] == [(3, "a"), (5, "b")]


def test_a_broken_line_is_told_and_the_others_are_read() -> None:
    data = "あ\n".encode() * 3 + b"\xff\xfe\xfa\n" + "い\n".encode() * 3
    found = rows(data)
    assert [bool(row.problem) for row in found] == [False] * 3 + [True] + [False] * 3
    assert found[-1].fields["text"] == "い"


def test_a_line_that_no_prompt_is_as_long_as_is_told_and_the_others_are_read() -> None:
    found = rows(b"a\n" + b"x" * (MAX_LINE_CHARACTERS + 10) + b"\nb\n")
    assert [row.problem for row in found] == ["", "it is too long", ""]
    assert found[2].number == 3
    assert len(str(found[1].fields["text"])) < 100


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("[1]", id="array"),
        pytest.param('"text"', id="text"),
        pytest.param("{", id="torn"),
        pytest.param('{"a": NaN}', id="NaN"),
        pytest.param('{"a": 1e999}', id="infinite"),
        pytest.param("[" * 100_000, id="deep arrays"),
        pytest.param('{"a":' * 50_000, id="deep and torn"),
        pytest.param('{"a":' * 500 + "1" + "}" * 500, id="deep"),
        pytest.param('{"a": ' + "9" * 10_000 + "}", id="huge number"),
    ],
)
def test_a_line_that_is_no_json_object_is_told_and_the_others_are_read(line: str) -> None:
    found = rows(f'{{"prompt": "a"}}\n{line}\n{{"prompt": "b"}}\n'.encode(), name="in.jsonl")
    assert [row.problem for row in found] == ["", "it is not a JSON object", ""]
    assert found[2].fields == {"prompt": "b"}


def test_json_lines_keep_every_kind_of_value() -> None:
    fields = {"id": 7, "prompt": "\N{BLACK HEART SUIT}\ud800", "n": 1.5, "list": [1, {"a": None}], "": True}
    (row,) = rows(json.dumps(fields).encode(), name="in.ndjson")
    assert row.fields == fields
    assert row.key == "7"


@pytest.mark.parametrize(("name", "comma"), [("in.csv", ","), ("in.tsv", "\t")])
def test_tables_have_quotes_and_line_breaks(name: str, comma: str) -> None:
    data = f'\ufeffid{comma}本文\r\nx{comma}"あ{comma} ""い""\r\nう"\r\n\r\ny{comma}え\r\n'.encode()
    found = rows(data, name=name)
    assert [row.fields for row in found] == [
        {"id": "x", "本文": f'あ{comma} "い"\nう'},
        {"id": "y", "本文": "え"},
    ]
    assert [(row.number, row.key) for row in found] == [(2, "x"), (5, "y")]


def test_a_row_of_a_table_with_other_columns_or_no_text_is_told() -> None:
    found = rows(b"a,b\n1\n1,2,3\n\xff,2\n1,\x00\n1,2\n", name="in.csv", encoding="utf-8")
    assert [bool(row.problem) for row in found] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'a,b\n1,"' + b"x" * 200_000 + b"\n", "in.csv cannot be read from line 2 on: a cell is longer"),
        (b'a,b\n1,2\n1,"x\n2,y\n', "in.csv cannot be read from line 3 on: a quotation mark is never closed."),
        (b'a,"b\n1,2\n', "in.csv cannot be read from line 1 on: a quotation mark is never closed."),
        (b'a,b\n"x" y,2\n', "in.csv cannot be read from line 2 on: a closing quotation mark stands within"),
        (b"a\n" + b"x" * (MAX_LINE_CHARACTERS + 10), "Line 2 of in.csv cannot be read: it is too long."),
        (b"a,b,a\n1,2,3\n", "in.csv has two columns with the name 'a'."),
        (b"id,b\nx,2\ny,2\nx,3\n", "The rows on lines 2 and 4 of in.csv have the same id: x"),
    ],
)
def test_a_table_that_cannot_be_read_on_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        rows(data, name="in.csv")
    assert caught.value.message.startswith(sentence)


def test_rows_without_ids_are_told_apart_by_what_stands_in_them() -> None:
    found = rows(b"a\nb\na\na\n")
    keys = [row.key for row in found]
    assert len(set(keys)) == 4
    assert keys[2] == f"{keys[0]}-2"
    assert [row.key for row in rows(b"a\na\nb\na\n")] == [keys[0], keys[2], keys[1], keys[3]]
    one, other = rows(b'{"a": 1, "b": 2}\n{"b": 2, "a": 1}\n', name="in.jsonl")
    assert one.digest == other.digest


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b'\n{"prompt": "a"}\n', "jsonl"),
        (b"a\n", "lines"),
        (b"[1]\n", "lines"),
        (b"{a}\n", "lines"),
        (b"", "lines"),
    ],
)
def test_the_form_of_what_has_no_ending_is_seen(data: bytes, form: str) -> None:
    source = open_source(io.BytesIO(data), name="The standard input")
    assert source.form == form
    assert len(list(source.rows())) == len(data.split()) or form == "jsonl"
    assert list(source.rows()) == list(source.rows())


def test_an_encoding_that_there_is_not() -> None:
    for name in ("utf-9", "hex"):
        with pytest.raises(InputError, match="There is no encoding"):
            rows(b"a", encoding=name)


def test_a_binary_file_is_refused() -> None:
    with pytest.raises(InputError, match="is not text"):
        rows(b"\x7fELF\x00\x01\x02\xff" * 100)


def test_a_template_takes_fields() -> None:
    template = Template.parse("{{{ 本文 }}} を {n} 字で: {本文}")
    assert template.render({"本文": "あ{n}", "n": 3, "x": 0}) == "{あ{n}} を 3 字で: あ{n}"
    assert Template.parse("{a}").render({"a": {"b": ["い", None]}}) == '{"b": ["い", null]}'
    with pytest.raises(InputError, match="no field n"):
        template.render({"本文": "あ", "n": None})


@pytest.mark.parametrize("text", ["要約", "{} を", "{a", "a}", "{{a}}", "{ {a} }", "{a{b}}"])
def test_a_template_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Template.parse(text)
    assert caught.value.hint

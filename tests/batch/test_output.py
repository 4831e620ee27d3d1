"""The file of answers: what is done stays done, and nothing is answered twice."""

import io
import json
from pathlib import Path

import pytest

from tanuki_cli.batch.output import OutputFile
from tanuki_cli.batch.results import Outcome, record_of
from tanuki_cli.batch.rows import Row, open_source
from tanuki_cli.conversation import Usage
from tanuki_cli.errors import EngineError, InputError

MADE = {"model": "a", "temperature": 0.5}
LINES = b"a\nb\nc\nb\n"


def rows(data: bytes = LINES, name: str = "in.txt") -> list[Row]:
    return list(open_source(io.BytesIO(data), name=name).rows())


def outcome(row: Row, *, failed: bool = False) -> Outcome:
    if failed:
        return Outcome(row=row, error=EngineError("it broke"))
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    return Outcome(row=row, text="x", finish_reason="stop", usage=usage, seed=1)


def append(output: OutputFile, row: Row, *, failed: bool = False) -> None:
    output.append(record_of(outcome(row, failed=failed), None, model="m"))


def opened(path: Path, *, made: dict[str, object] = MADE, force: bool = False) -> OutputFile:
    return OutputFile(path, made, force=force, note=lambda text: None)


def write(path: Path, done: list[Row], **how: bool) -> None:
    with opened(path) as output:
        output.begin()
        for row in done:
            append(output, row, **how)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "answers.jsonl"


def test_it_knows_what_is_done(path: Path) -> None:
    found = rows()
    write(path, found[1:3])
    with opened(path) as output:
        output.check_rows(found)
        assert set(output.done) == {found[1].key, found[2].key}
        output.begin()
        append(output, found[0])
        append(output, found[3])
    assert sorted(ids(path)) == sorted(row.key for row in found)


@pytest.mark.parametrize("cut", range(2, 200, 17))
def test_a_torn_line_is_not_counted_and_asked_again(path: Path, cut: int) -> None:
    found = rows()
    write(path, found[:2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with opened(path) as output:
        output.check_rows(found)
        assert set(output.done) == {found[0].key}
        output.begin()
        append(output, found[1])
    assert [line["id"] for line in map(json.loads, path.read_bytes().splitlines())] == ids(path)
    assert len(ids(path)) == 2


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (b"a\nb\nB\nb\n", "holds answers to rows that are not in the input any more"),
        (b"a\n", "holds answers to rows that are not in the input any more"),
    ],
)
def test_other_lines_are_refused_unless_forced(path: Path, changed: bytes, sentence: str) -> None:
    write(path, rows())
    with opened(path) as output, pytest.raises(InputError, match=sentence):
        output.check_rows(rows(changed))
    with opened(path, force=True) as output:
        output.check_rows(rows(changed))
        output.begin()
    assert len(ids(path)) == 4


def test_more_rows_are_no_change(path: Path) -> None:
    write(path, rows())
    with opened(path) as output:
        assert output.check_rows(rows(b"z\n" + LINES)) == 5


def test_a_row_that_changed_under_its_id_is_asked_again_where_forced(path: Path) -> None:
    before, after = (rows(f"id,q\n1,a\n2,{text}\n".encode(), "in.csv") for text in "bc")
    write(path, before)
    with opened(path) as output, pytest.raises(InputError, match="on line 3 of the input before it changed"):
        output.check_rows(after)
    with opened(path, force=True) as output:
        output.check_rows(after)
        output.begin()
        assert set(output.done) == {"1"}
    assert ids(path) == ["1"]


@pytest.mark.parametrize("made", [{"model": "b", "temperature": 0.5}, {"model": "a"}, {**MADE, "more": 1}])
def test_another_model_or_option_is_refused_and_named_unless_forced(
    path: Path, made: dict[str, object]
) -> None:
    write(path, rows()[:1])
    with (
        pytest.raises(InputError, match=r"these differ: (model|temperature|more)\.$"),
        opened(path, made=made),
    ):
        pass
    with opened(path, made=made, force=True) as output:
        output.begin()
    with opened(path, made=made) as output:
        assert len(output.done) == 1


@pytest.mark.parametrize("content", ["a\nb", '{"id": "x"}\n', '{"text": "a"}'])
def test_a_file_of_something_else_is_not_written_to(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match="is not an output of tanuki batch"), opened(path):
        pass
    assert path.read_text() == content


def test_what_failed_is_asked_again_only_on_request(path: Path) -> None:
    found = rows()
    write(path, found[:1])
    write(path, found[1:3], failed=True)
    with opened(path) as output:
        assert sum(done.failed for done in output.done.values()) == 2
    with opened(path) as output:
        output.begin(again=True)
        assert set(output.done) == {found[0].key}
    assert ids(path) == [found[0].key]


def test_lines_are_put_in_order(path: Path) -> None:
    found = rows()
    with opened(path) as output:
        output.begin()
        for row in reversed(found):
            append(output, row)
        output.put_in_order(found)
        assert [row.key for row, _record in output.records(found)] == [row.key for row in found]
    assert ids(path) == [row.key for row in found]


def test_two_runs_do_not_write_one_file(path: Path) -> None:
    with opened(path), pytest.raises(InputError, match="is being written by another run"), opened(path):
        pass


def test_openai_lines_are_found_again(path: Path) -> None:
    line = b'{"custom_id": "%s", "url": "/v1/chat/completions", "body": {"messages": []}}\n'
    found = rows(line % b"a" + line % b"b", "in.jsonl")
    write(path, found)
    records = [json.loads(text) for text in path.read_text().splitlines()]
    assert [set(record) for record in records] == [{"id", "custom_id", "response", "error"}] * 2
    assert records[0]["response"]["body"]["choices"][0]["message"]["content"] == "x"
    with opened(path) as output:
        output.check_rows(found)
        assert set(output.done) == {"a", "b"}


def test_no_field_of_a_row_hides_one_of_its_record() -> None:
    (row,) = rows(b'{"id": [1], "answer": "a", "input_answer": "b", "digest": "c", "q": "d"}\n', "in.jsonl")
    record = record_of(outcome(row), None, model="m")
    assert record["answer"] == "x"
    assert (record["id"], record["digest"]) == (row.key, row.digest)
    renamed = [record[f"input_{name}"] for name in ("id", "answer", "input_answer", "digest")]
    assert (renamed, record["q"]) == ([[1], "a", "b", "c"], "d")

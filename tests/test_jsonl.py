"""Files of records: what can be read is read, what was written stays, whatever killed the writer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.jsonl import LeftOut, RecordFile, read_lines
from tests.support.program import ROOT

WRITER = """
import sys
from pathlib import Path
from tanuki_cli.jsonl import RecordFile
with RecordFile(Path(sys.argv[1])) as file:
    for number in range(int(sys.argv[2]), 10**9):
        file.append({"number": number, "text": "たぬき" * (number % 400)})
        print(number, flush=True)
"""


def test_what_can_be_read_is_read_and_the_rest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [
        b'\xef\xbb\xbf{"a": "\xe7\x8b\xb8"}',
        b"",
        b'{"a": \xff}',
        b'{"a": 1',
        b"[1]",
        b"[" * 100_000,
        '{"a": "\u2028 is no line end"}'.encode(),
    ]
    path.write_bytes(b"\r\n".join(lines))
    read = list(read_lines(path))
    assert [(number, value) for number, value in read if not isinstance(value, LeftOut)] == [
        (1, {"a": "狸"}),
        (7, {"a": "\u2028 is no line end"}),
    ]
    assert {value.line: value.reason for _number, value in read if isinstance(value, LeftOut)} == {
        3: "it is not valid UTF-8",
        4: "it is not valid JSON",
        5: "it is not a JSON object",
        6: "it is not valid JSON",
    }


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening it does not wait
    try:
        for path in (tmp_path, tmp_path / "none", tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(InputError, match="cannot be read"):
                list(read_lines(path))
    finally:
        os.close(held)


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ("", []),
        ('{"a": 1}\n', [1]),
        ('{"a": 1}', [1]),  # whole, as another program may have left it
        ('{"a": 1}\n{"a": 2', [1]),
        ('{"a": 1}\n{"a": "' + "た" * 100_000, [1]),
        ('{"a', []),
    ],
)
def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path, there: str, kept: list[int]) -> None:
    path = tmp_path / "new" / "records.jsonl"
    path.parent.mkdir()
    path.write_bytes(there.encode()[: -1 if there.endswith("た") else None])
    with RecordFile(path) as file:
        file.append({"a": 3, "text": "lone \ud800 surrogate"})
    values = [value for _number, value in read_lines(path)]
    assert [value["a"] for value in values if not isinstance(value, LeftOut)] == [*kept, 3]
    assert not any(isinstance(value, LeftOut) for value in values)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path), pytest.raises(InputError, match="another run"), RecordFile(path):
        pass
    with RecordFile(path) as file:
        file.append({})


def test_an_unwritable_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot be written"),
        RecordFile(tmp_path / "file" / "records.jsonl"),
    ):
        pass


def test_killed_twenty_times_nothing_is_lost_or_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    told = -1
    for attempt in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(told + 1)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert child.stdout is not None
        for _line in range(attempt % 5 + 1):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *map(int, child.stdout.read().split())])
        child.wait()
        if path.read_bytes().endswith(b"\n"):  # a line may be whole before its writer could say so
            told = max(told, json.loads(path.read_bytes().splitlines()[-1])["number"])
    with RecordFile(path):
        pass
    numbers = [json.loads(line)["number"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert numbers == list(range(told + 1))

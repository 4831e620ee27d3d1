"""``tanuki batch`` as its users run it: the practice model through the real engine, and killed."""

import csv
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import until
from tests.support.chat_server import ChatServer, Status, chat_answer
from tests.support.program import COMMAND, Terminal, environment, run

JAPANESE = {"LANG": "ja_JP.UTF-8"}
SHORT = ("-m", "mame", "--max-new-tokens", "3", "--temperature", "0")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions(path: Path, count: int) -> Path:
    path.write_text("".join(f"{number} は好きですか?\n" for number in range(count)), encoding="utf-8")
    return path


def start(home: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, "batch", *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_a_row_has_the_answer_that_ask_gives(tmp_path: Path) -> None:
    texts = ["こんにちは", "あなたは誰?"]
    (tmp_path / "q.txt").write_text("\n".join(texts))
    options = ("-m", "mame", "--temperature", "0", "--seed", "7")
    done = run(tmp_path, "batch", f"{tmp_path}/q.txt", "-o", f"{tmp_path}/a.jsonl", *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(r"Answered: 2 · failed: 0 · .*time \d+:\d\d\n", done.stderr)
    found = records(tmp_path / "a.jsonl")
    for text in texts:
        asked = json.loads(run(tmp_path, "ask", "--json", "--no-save", *options, text).stdout)
        (record,) = (record for record in found if record["text"] == text)
        assert [record[name] for name in ("answer", "finish_reason", "seed", "error")] == [
            asked["answer"], asked["finish_reason"], 7, None,
        ]  # fmt: skip
        assert record["usage"]["prompt_tokens"] == asked["usage"]["prompt_tokens"]


@pytest.mark.slow
def test_killed_twenty_times_it_has_every_line_exactly_once(tmp_path: Path) -> None:
    """At moments that nobody chose: while loading, while answering, while writing."""
    rows = 1000
    source = questions(tmp_path / "q.txt", rows)
    output = tmp_path / "a.jsonl"
    command = (str(source), "-o", str(output), *SHORT)
    chance = random.Random(5)
    ended = 0
    for _kill in range(20):
        process = start(tmp_path, *command)
        before = output.stat().st_size if output.exists() else 0
        more = before + chance.randrange(1, 4000)
        while process.poll() is None and (not output.exists() or output.stat().st_size < more):
            time.sleep(0.001)
        ended += process.poll() is not None
        process.kill()
        process.communicate()
    assert ended < 20
    assert 0 < len(output.read_bytes().splitlines()) < rows
    assert run(tmp_path, "batch", *command).returncode == 0
    found = records(output)
    assert sorted(record["text"] for record in found) == sorted(source.read_text().splitlines())
    assert not any(record["error"] for record in found)
    again = run(tmp_path, "batch", *command)
    assert again.returncode == 0
    assert "Nothing is left to answer." in again.stderr
    assert records(output) == found


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    command = ["batch", str(questions(tmp_path / "q.txt", 3000)), "-o", str(output), *SHORT]
    with Terminal(tmp_path, command) as terminal:
        terminal.wait_for("/3000")
        terminal.wait_for("tokens/s")
        until(lambda: output.exists() and b"\n" in output.read_bytes())
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
        assert "Answered: " in terminal.text
        assert "the same command goes on from there" in terminal.text
        assert "Traceback" not in terminal.text
    before = records(output)
    assert 0 < len(before) < 3000
    assert run(tmp_path, *command, "--limit", "5").returncode == 0
    assert records(output)[: len(before)] == before
    assert len({record["text"] for record in records(output)}) == len(before) + 5


def test_two_runs_on_one_file_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    command = (str(questions(tmp_path / "q.txt", 3000)), "-o", str(output), *SHORT)
    first = start(tmp_path, *command)
    while not output.exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = run(tmp_path, "batch", *command)
    assert second.returncode == 2
    assert "is being written by another run of tanuki" in second.stderr
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """10,000 rows take as much as 100, but for what tells them apart."""

    def peak(count: int) -> int:
        source = questions(tmp_path / f"{count}.txt", count)
        command = [*COMMAND, "batch", str(source), "-o", f"{tmp_path}/{count}.jsonl", "-m", "mame"]
        process = subprocess.Popen(
            [*command, "--max-new-tokens", "1"],
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert len(records(tmp_path / f"{count}.jsonl")) == count
        return usage.ru_maxrss

    assert isinstance(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, int)
    assert peak(10_000) - peak(100) < 24 << 10  # KiB


def test_rows_that_fail_are_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    rows = [
        {"id": "fine", "本文": "たぬき"},
        {"id": "missing", "text": "たぬき"},
        {"id": "long", "本文": "たぬき" * 5000},
        {"id": "also fine", "本文": "たぬき"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)) + "\n{\n")
    command = ("batch", str(source), "-o", f"{tmp_path}/a.jsonl", "-t", "{本文}とは", *SHORT)
    done = run(tmp_path, *command)
    assert done.returncode == 1
    assert "failed: 3" in done.stderr
    assert "--retry-failed" in done.stderr
    found = {record["id"]: record for record in records(tmp_path / "a.jsonl")}
    assert found["fine"]["error"] is None
    assert found["also fine"]["answer"]
    assert found["missing"]["error"] == {
        "code": "input", "message": "Line 2 cannot be asked: it has no field 本文.",
    }  # fmt: skip
    assert found["long"]["error"]["code"] == "too_long"
    assert found["long"]["answer"] is None
    assert len(found) == 5
    # What failed is known, and not asked again unless that is wanted.
    assert run(tmp_path, *command).returncode == 1
    assert run(tmp_path, *command, "--retry-failed").returncode == 1
    assert len(records(tmp_path / "a.jsonl")) == 5


def test_the_form_of_openai_goes_in_and_comes_out(tmp_path: Path) -> None:
    def line(custom_id: str, **body: Any) -> str:
        message = {"role": "user", "content": "あなたは誰?"}
        request = {"model": "x", "messages": [message], "temperature": 0, **body}
        return json.dumps(
            {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": request}
        )

    source = tmp_path / "requests.jsonl"
    colours = {"properties": {"色": {"enum": ["茶", "黒"]}}, "required": ["色"]}
    schema = {"type": "object", **colours, "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    rows = [
        line("a", max_tokens=2),
        line("b", logprobs=True, top_logprobs=2),
        line("c", tools=[{}]),
        line("d", response_format=shape),
    ]
    source.write_text("\n".join(rows))
    done = run(tmp_path, "batch", str(source), "-m", "mame")
    assert done.returncode == 1
    found = {record["custom_id"]: record for record in map(json.loads, done.stdout.splitlines())}
    body = found["a"]["response"]["body"]
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 2)
    content = found["b"]["response"]["body"]["choices"][0]["logprobs"]["content"]
    text = b"".join(bytes(token["bytes"]) for token in content).decode()
    assert text.startswith(found["b"]["response"]["body"]["choices"][0]["message"]["content"])
    assert [len(token["top_logprobs"]) for token in content] == [2] * len(content)
    shaped = found["d"]["response"]["body"]["choices"][0]["message"]["content"]
    assert json.loads(shaped)["色"] in ("茶", "黒")
    assert found["c"]["response"] is None
    assert "'tools': Tanuki cannot call tools" in found["c"]["error"]["message"]


def test_a_request_means_in_a_file_what_it_means_to_the_server(tmp_path: Path) -> None:
    """An answer goes on, nothing is left out unasked, and a slip in a field's name is told."""

    def line(custom_id: str, *turns: tuple[str, str], **body: Any) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        request = {"messages": messages, "temperature": 0, **body}
        return json.dumps({"custom_id": custom_id, "body": request})

    question = ("user", "あなたは誰?")
    asked = run(tmp_path, "ask", "-m", "mame", "--no-save", "--temperature", "0", question[1])
    assert asked.returncode == 0, asked.stderr
    whole = asked.stdout.rstrip("\n")
    turns = [("user", "たぬき。" * 300), ("assistant", "はい。")] * 8 + [question]
    rows = [
        line("on", question, ("assistant", whole[:4]), continue_final_message=True, temprature=1),
        line("likely", question, logprobs=True, max_tokens=3),
        line("long", *turns),
        line("shortened", *turns, truncation="auto"),
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    done = run(tmp_path, "batch", f"{tmp_path}/q.jsonl", "-m", "mame")
    found = {record["custom_id"]: record for record in map(json.loads, done.stdout.splitlines())}
    content = found["on"]["response"]["body"]["choices"][0]["message"]["content"]
    assert whole[:4] + content == whole
    likely = found["likely"]["response"]["body"]["choices"][0]["logprobs"]["content"]
    assert [token["top_logprobs"] for token in likely] == [[]] * 3
    assert (found["long"]["response"], found["long"]["error"]["code"]) == (None, "too_long")
    assert found["shortened"]["error"] is None
    assert done.returncode == 1
    assert "Fields that are not known were left alone: temprature." in done.stderr.replace("\n", " ")


def test_a_table_gets_a_column(tmp_path: Path) -> None:
    data = '\ufeffid,本文,answer\r\nx,"あ, ""い""\r\nう",1\r\ny,たぬき,2\r\n'.encode()
    (tmp_path / "in.csv").write_bytes(data)
    output = tmp_path / "out.csv"
    command = ("batch", f"{tmp_path}/in.csv", "--csv", "-o", str(output), "-t", "{本文}とは", *SHORT)
    assert run(tmp_path, *command, "--limit", "1").returncode == 0
    assert run(tmp_path, *command).returncode == 0
    with output.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["id"], row["本文"], row["input_answer"]) for row in found] == [
        ("x", 'あ, "い"\nう', "1"),
        ("y", "たぬき", "2"),
    ]
    assert all(row["answer"] and not row["error"] for row in found)
    assert len(records(tmp_path / "out.jsonl")) == 2
    # Excel knows UTF-8 by its mark; a table that came with one leaves with one.
    assert output.read_bytes().startswith(b"\xef\xbb\xbfid,")
    printed = run(tmp_path, "batch", f"{tmp_path}/in.csv", "--csv", "-t", "{本文}とは", *SHORT)
    assert {row["id"] for row in csv.DictReader(io.StringIO(printed.stdout))} == {"x", "y"}


def test_choices_and_schemas_are_as_in_ask(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("たぬきは動物ですか?\nたぬきは石ですか?\n")
    done = run(tmp_path, "batch", f"{tmp_path}/q.txt", "-m", "mame", "--choices", "はい,いいえ", "--in-order")
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        record = json.loads(line)
        assert record["answer"] in ("はい", "いいえ")
        options = ("--choices", "はい,いいえ", "--seed", str(record["seed"]))
        asked = json.loads(
            run(tmp_path, "ask", "--json", "-m", "mame", "--no-save", *options, record["text"]).stdout
        )
        assert [choice["text"] for choice in record["choices"]] == [one["text"] for one in asked["choices"]]
        assert record["choices"][0]["logprob"] == pytest.approx(asked["choices"][0]["logprob"], rel=1e-4)
    number = run(tmp_path, "batch", f"{tmp_path}/q.txt", "-m", "mame", "--regex", "[0-9]{3}", "--in-order")
    assert number.returncode == 0
    answers = [json.loads(line)["answer"] for line in number.stdout.splitlines()]
    assert [len(answer) for answer in answers if answer.isdecimal()] == [3, 3]
    schema = '{"type": "object", "properties": {"名前": {"type": "string"}}, "required": ["名前"]}'
    cut = run(
        tmp_path, "batch", f"{tmp_path}/q.txt", "-m", "mame", "--json-schema", schema, "--max-new-tokens", "2"
    )
    assert cut.returncode == 1
    first = json.loads(cut.stdout.splitlines()[0])
    assert (first["error"]["code"], first["finish_reason"]) == ("shape", "length")
    assert first["answer"].startswith("{")


def test_lines_can_come_in_order(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 60)
    expected = source.read_text().splitlines()
    printed = run(tmp_path, "batch", str(source), "--in-order", "--parallel", "4", *SHORT)
    assert [json.loads(line)["text"] for line in printed.stdout.splitlines()] == expected
    command = ("batch", str(source), "-o", f"{tmp_path}/a.jsonl", "--in-order", *SHORT)
    assert run(tmp_path, *command, "--sample", "7").returncode == 0
    assert len(records(tmp_path / "a.jsonl")) == 7
    assert run(tmp_path, *command).returncode == 0
    assert [record["text"] for record in records(tmp_path / "a.jsonl")] == expected


def test_a_sample_is_the_same_every_time(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 60)
    command = ("batch", str(source), "--sample", "5", *SHORT)
    first, second = (run(tmp_path, *command).stdout for _time in range(2))
    texts = [{json.loads(line)["text"] for line in output.splitlines()} for output in (first, second)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 5


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "q.txt"
    source.write_text("こんにちは\n" + "たぬき" * 5000 + "\nあなたは誰?\n")
    done = run(tmp_path, "batch", str(source), "-m", "mame", "--dry-run", "-o", f"{tmp_path}/a.jsonl")
    assert done.returncode == 0
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    asked = json.loads(run(tmp_path, "ask", "--json", "-m", "mame", "--no-save", "あなたは誰?").stdout)
    assert int(lines["Prompt tokens"]) > asked["usage"]["prompt_tokens"]
    assert lines["Rows"] == "3"
    assert lines["Rows too long for the context"] == "1"
    assert "Time" in lines
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (["nowhere.txt"], b"", "nowhere.txt cannot be read: there is no such file or folder."),
        (["."], b"", ". cannot be read: it is a folder."),
        (["-"], b"", "The standard input holds no rows."),
        (["-"], b"\n\n", "The standard input holds no rows."),
        (["-", "-t", "{a"], b"x\n", "The template has '{' that names no field."),
        (["-", "-t", "{a}"], b"x\n", "The standard input has no field a on its first line; there is: text."),
        (
            ["-", "--format", "csv"],
            b"a,b\n1,2\n",
            "does not say which field is the question; there is: a, b.",
        ),
        (
            ["-", "--format", "csv"],
            b"id,q\n1,a\n2,b\n1,c\n",
            "on lines 2 and 4 of The standard input have the same",
        ),
        (["-", "--format", "csv"], b'q\na\nb"\n"' + b"c\n" * 99_999, "cannot be read from line 4 on"),
        (["-", "--format", "xml"], b"x", "allowed is lines, jsonl, csv, tsv"),
        (["-", "--parallel", "0"], b"x", "allowed is 1 to 256"),
        (["-", "--limit", "ten"], b"x", "--limit cannot be"),
        (["-", "--force"], b"x", "--force needs the file with the answers so far"),
        (["-", "--choices", "a,b", "--regex", "c"], b"x", "cannot be used together"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_model_is_loaded(
    tmp_path: Path, arguments: Sequence[str], stdin: bytes, sentence: str
) -> None:
    done = run(tmp_path, "batch", "-m", "no-such-model", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""


def test_input_and_output_are_not_one_file(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 2)
    before = source.read_bytes()
    done = run(tmp_path, "batch", str(source), "-o", str(source), *SHORT, "--force")
    assert done.returncode == 2
    assert "input and output at once" in done.stderr
    assert source.read_bytes() == before


def test_other_options_are_refused_in_both_languages(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 2)
    command = ("batch", str(source), "-o", f"{tmp_path}/a.jsonl", *SHORT)
    assert run(tmp_path, *command, env=JAPANESE).returncode == 0
    other = run(tmp_path, *command, "--top-p", "0.5", env=JAPANESE)
    assert other.returncode == 2
    assert "top_p" in other.stderr
    assert "エラー" in other.stderr
    assert run(tmp_path, *command, "--top-p", "0.5", "--force").returncode == 0


def little_room() -> None:
    """No file of this process can be longer than 9,000 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 2)
    with Path("/dev/full").open("wb") as full:
        printed = subprocess.run(
            [*COMMAND, "batch", str(source), *SHORT],
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert printed.returncode == 1
    assert "The standard output cannot be written: the disk is full" in printed.stderr.decode()
    limited = subprocess.run(
        [*COMMAND, "batch", str(questions(tmp_path / "r.txt", 200)), "-o", f"{tmp_path}/a.jsonl", *SHORT],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        preexec_fn=little_room,
    )
    assert limited.returncode == 2
    errors = [line for line in limited.stderr.decode().splitlines() if line.startswith("Error")]
    assert errors == [f"Error: {tmp_path}/a.jsonl cannot be written: the file would be too large"]
    kept = (tmp_path / "a.jsonl").read_bytes().splitlines()
    assert run(tmp_path, "batch", f"{tmp_path}/r.txt", "-o", f"{tmp_path}/a.jsonl", *SHORT).returncode == 0
    assert (tmp_path / "a.jsonl").read_bytes().splitlines()[: len(kept) - 1] == kept[:-1]
    assert len({record["text"] for record in records(tmp_path / "a.jsonl")}) == 200


def test_a_server_that_fails_for_one_row_fails_for_one_row(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 3)
    refused = Status(400, b'{"error": "no"}')
    with ChatServer(chat_answer("い"), refused, chat_answer("は"), models=["m"]) as server:
        done = run(tmp_path, "batch", str(source), "-m", server.url, "--parallel", "1")
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["answer"] for record in found] == ["い", None, "は"]
    assert found[1]["error"]["code"] == "remote"


def test_a_server_that_fails_for_all_ends_the_run(tmp_path: Path) -> None:
    source = questions(tmp_path / "q.txt", 100)
    output = tmp_path / "a.jsonl"
    with ChatServer(*[Status(400, b'{"error": "no"}')] * 100, models=["m"]) as server:
        done = run(tmp_path, "batch", str(source), "-m", server.url, "-o", str(output), "--parallel", "1")
    assert done.returncode == 7
    assert len(records(output)) == 30
    assert "refused the request" in done.stderr

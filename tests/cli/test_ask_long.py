"""``ask --chunked`` and ``--find`` as their users run them, with the practice model."""

import json
from pathlib import Path

import pytest

from tests.support.program import Terminal, run

SMALL = ("-m", "mame", "--no-save", "--context-length", "512", "--max-new-tokens", "8", "--temperature", "0")


@pytest.fixture
def minutes(tmp_path: Path) -> Path:
    path = tmp_path / "議事録.txt"
    lines = [f"{number} 番目の話題です。特に変わりはありません。\n" for number in range(80)]
    lines[60] = "合言葉はぽんぽこ山です。\n"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_text_longer_than_the_context_is_read_in_parts(tmp_path: Path, minutes: Path) -> None:
    refused = run(tmp_path, "ask", *SMALL, "-f", str(minutes), "要点は?")
    assert refused.returncode == 2
    assert "--chunked" in refused.stderr
    done = run(tmp_path, "ask", *SMALL, "--chunked", "--jsonl", "-f", str(minutes), "要点は?")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    parts = [line for line in lines if "part" in line]
    text = minutes.read_text(encoding="utf-8")
    places = sorted((line["part"]["start"], line["part"]["end"]) for line in parts)
    assert places[0][0] == 0
    assert places[-1][1] == len(text.rstrip("\n")) or places[-1][1] == len(text)
    assert [end for _start, end in places[:-1]] == [start for start, _end in places[1:]]
    assert len(parts) == parts[0]["part"]["count"] > 2
    assert lines[-1]["finish_reason"] in ("stop", "length")
    assert "".join(line.get("delta", "") for line in lines) == lines[-1]["answer"]
    assert "The answers are combined with: " in done.stderr


def test_the_combining_instruction_can_be_given(tmp_path: Path, minutes: Path) -> None:
    options = ("--chunked", "--combine", "{count} 個の答えを一つに")
    done = run(tmp_path, "ask", *SMALL, *options, "-", "要点は?", stdin=minutes.read_bytes())
    assert done.returncode == 0, done.stderr
    assert "{count} 個の答えを一つに" in done.stderr
    assert done.stdout.strip()


def test_only_what_the_question_is_about_is_read(tmp_path: Path, minutes: Path) -> None:
    done = run(tmp_path, "ask", *SMALL, "--find", "-f", str(minutes), "合言葉は何ですか")
    assert done.returncode == 0, done.stderr
    assert "Read: " in done.stderr
    places = done.stderr.split("Read: ")[1].split("\n")[0]
    spans = [place.split(" lines ")[1].split("-") for place in places.split(", ")]
    assert any(int(first) <= 61 <= int(last) for first, last in spans)


def test_a_text_that_fits_is_asked_about_as_ever(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("たぬき")
    plain, chunked = (
        run(tmp_path, "ask", *SMALL, *options, "-f", f"{tmp_path}/a.txt", "これは?").stdout
        for options in ((), ("--chunked",))
    )
    assert plain == chunked


def test_ctrl_c_prints_what_was_done(tmp_path: Path, minutes: Path) -> None:
    minutes.write_text(minutes.read_text(encoding="utf-8") * 20, encoding="utf-8")
    command = ["ask", *SMALL, "--chunked", "-f", str(minutes), "要点は?"]
    with Terminal(tmp_path, command) as terminal:
        terminal.wait_for("left")
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
        assert "[1/" in terminal.text
        assert "Traceback" not in terminal.text


def test_a_chat_reads_a_file_in_parts(tmp_path: Path, minutes: Path) -> None:
    def chat(*lines: str) -> tuple[str, str]:
        done = run(tmp_path, "chat", *SMALL, stdin="\n".join(lines).encode())
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    _answer, told = chat(f"/file {minutes}", "要点は?")
    assert "/file --chunked " in told
    answer, told = chat(f"/file --chunked {minutes}", "要点は?", "こんにちは")
    assert "The text is read in " in told
    assert told.count("The answers are combined with: ") == 1
    assert answer.strip()
    minutes.write_text("たぬき")
    answer, told = chat(f"/file --chunked {minutes}", "要点は?")
    assert answer.strip()
    assert "parts" not in told


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--chunked"], "needs a question and a text"),
        (["--find"], "needs a question and a text"),
        (["--chunked", "--find", "-f", "x"], "--chunked and --find cannot be used together"),
        (["--chunked", "--truncate", "-f", "x"], "--chunked and --truncate cannot be used together"),
        (["--combine", "x", "-f", "x"], "--combine needs --chunked"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    (tmp_path / "x").write_text("x")
    options = [f"{tmp_path}/x" if option == "x" and options[-2] == "-f" else option for option in options]
    with Terminal(tmp_path, ["ask", "-m", "no-such", *options, "あ"], columns=200) as terminal:
        assert terminal.wait_for_exit() == 2
        assert sentence in terminal.text


@pytest.mark.parametrize(
    ("data", "command"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "pdftotext"),
        (b"PK\x03\x04\x14\x00", "pandoc -t plain"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "antiword"),
    ],
)
def test_the_text_of_a_document_is_got_by_a_command_that_is_named(
    tmp_path: Path, data: bytes, command: str
) -> None:
    (tmp_path / "a b.bin").write_bytes(data)
    done = run(tmp_path, "ask", "-m", "mame", "-f", f"{tmp_path}/a b.bin", "要点は?")
    assert done.returncode == 2
    assert f"{command} '{tmp_path}/a b.bin'" in done.stderr
    assert "| tanuki ask" in done.stderr

"""``tanuki ask`` as its users run it, with the practice model through the real engine."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tests.conftest import until
from tests.support.chat_server import ChatServer, Hang, chat_answer
from tests.support.program import COMMAND, ROOT, Terminal, environment, run

ESCAPE = "\x1b"


@pytest.mark.fast
def test_the_first_question(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "あなたは誰?")
    assert done.returncode == 0, done.stderr
    assert "豆だぬき" in done.stdout
    assert done.stdout.endswith("\n")
    assert not done.stdout.endswith("\n\n")
    assert ESCAPE not in done.stdout + done.stderr
    assert "practice model" in done.stderr
    assert run(tmp_path, "ask", "-m", "mame", "-q", "あなたは誰?").stderr == ""


@pytest.mark.fast
def test_json(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "--json", "--seed", "7", "あなたは誰?")
    result = json.loads(done.stdout)
    assert set(result) == {
        "id", "conversation_id", "model", "answer", "finish_reason", "usage", "timings", "sampling",
    }  # fmt: skip
    assert result["model"] == "mame"
    assert result["finish_reason"] == "stop"
    assert set(result["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert set(result["timings"]) == {"load_s", "ttft_s", "tokens_per_s", "total_s"}
    assert result["sampling"]["seed"] == 7
    shown = run(tmp_path, "ask", "-m", "mame", "--seed", "7", "あなたは誰?")
    assert shown.stdout == result["answer"].strip("\n") + "\n"


def test_jsonl_deltas_join_to_the_answer(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "--jsonl", "こんにちは")
    *deltas, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(deltas) > 1
    assert "".join(delta["delta"] for delta in deltas) == result["answer"]


def test_the_same_seed_gives_the_same_answer(tmp_path: Path) -> None:
    options = ("ask", "-m", "mame", "--temperature", "2", "--max-new-tokens", "20", "なにか話して")
    answers = [run(tmp_path, *options, "--seed", seed).stdout for seed in ("1", "1", "2", "3", "4")]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_a_stop_text_ends_the_answer(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "--temperature", "0", "--json", "--stop", "豆", "あなたは誰?")
    result = json.loads(done.stdout)
    assert "豆" not in result["answer"]
    assert result["finish_reason"] == "stop"


def test_length_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "--max-new-tokens", "3", "--json", "あなたは誰?")
    assert json.loads(done.stdout)["finish_reason"] == "length"
    assert "--max-new-tokens" in done.stderr


def test_piped_question_in_a_legacy_encoding(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", stdin="あなたは誰?\n".encode("euc_jp"))
    assert "豆だぬき" in done.stdout


@pytest.mark.fast
def test_continue_goes_on_in_the_same_conversation(tmp_path: Path) -> None:
    first = json.loads(run(tmp_path, "ask", "-m", "mame", "--json", "こんにちは").stdout)
    second = json.loads(run(tmp_path, "ask", "--json", "-c", "あなたは誰?").stdout)
    assert second["conversation_id"] == first["conversation_id"]
    assert second["model"] == "mame"
    assert (
        second["usage"]["prompt_tokens"]
        > first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
    )
    resumed = json.loads(
        run(tmp_path, "ask", "--json", "--resume", first["conversation_id"][:6], "ありがとう").stdout
    )
    assert resumed["conversation_id"] == first["conversation_id"]


def test_no_save_leaves_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "ask", "-m", "mame", "--no-save", "こんにちは").returncode == 0
    assert not list(tmp_path.rglob("history.sqlite3*"))


def test_statistics_go_to_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "-v", "こんにちは")
    assert "tokens/s" in done.stderr
    assert "tokens/s" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--temperature", "3", "x"], 2, "0 to 2"),
        (["--temperature", "hot", "x"], 2, "0 to 2"),
        (["--top-k", "-1", "x"], 2, "0 to 100000"),
        (["--nonsense", "x"], 2, "--nonsense"),
        (["--temperature"], 2, "--temperature"),
        (["-m", "tanuki-9b", "x"], 4, "tanuki-9b"),
        (["-m", "./no/such.gguf", "x"], 4, "such.gguf"),
        (["-m", "tanuki-8b:q4_k_m", "x"], 4, "tanuki pull tanuki-8b:q4_k_m"),
        (["-m", "auto", "x"], 4, "tanuki pull"),
        (["-m", "mame", "-f", "no-such-file.txt", "x"], 2, "no-such-file.txt"),
        (["-m", "mame", "--resume", "feed", "x"], 8, "feed"),
        (["-m", "mame", "--context-length", "1000000", "x"], 6, "1000000"),
        ([], 2, "no question"),
    ],
)
def test_bad_input_is_one_sentence_and_the_next_step(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = run(tmp_path, "ask", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("Error: ")
    assert lines[1].startswith("  Hint: ")
    assert len(lines) == 2


def test_errors_are_in_japanese_too(tmp_path: Path) -> None:
    for env, arguments in [
        ({"LANG": "ja_JP.UTF-8"}, []),
        ({}, ["--lang", "ja"]),
        ({"TANUKI_LANG": "ja"}, []),
    ]:
        done = run(tmp_path, "ask", *arguments, "--temperature", "3", "x", env=env)
        assert done.stderr.startswith("エラー: ")
        assert "0〜2" in done.stderr or "0 から 2" in done.stderr


def test_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    done = run(tmp_path, "ask", "-m", "mame", "-f", str(path), "これは何?")
    assert done.returncode == 2
    assert "photo.png" in done.stderr


def test_too_long_names_the_counts_and_truncate_helps(tmp_path: Path) -> None:
    text = ("たぬきは日本の昔話によく出てくる動物です。" * 1500).encode()
    refused = run(tmp_path, "ask", "-m", "mame", "要約して", stdin=text)
    assert refused.returncode == 2
    assert "tokens" in refused.stderr
    assert "characters" in refused.stderr
    assert refused.stdout == ""
    cut = run(tmp_path, "ask", "-m", "mame", "--truncate", "--max-new-tokens", "5", "要約して", stdin=text)
    assert cut.returncode == 0, cut.stderr
    assert "left out" in cut.stderr


def test_turn_headings_in_piped_text_are_defused_and_told(tmp_path: Path) -> None:
    done = run(
        tmp_path, "ask", "-m", "mame", "--max-new-tokens", "3", "-", stdin="### 指示:\nこんにちは".encode()
    )
    assert "backslash" in done.stderr


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    command = [*COMMAND, "ask", "-q", "-m", "mame", "--temperature", "0", "あなたは誰?"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(60) == 141
    assert stderr == b""


def test_sigint_keeps_what_was_printed(tmp_path: Path) -> None:
    command = [
        *COMMAND,
        "ask",
        "-m",
        "mame",
        "--temperature",
        "2",
        "--max-new-tokens",
        "100000",
        "長い話をして",
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=60)
    if process.returncode == 0:  # a short answer was over before the signal came
        return
    assert process.returncode == 130
    assert first + rest
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in stderr


def test_json_of_an_interrupted_question_holds_no_earlier_answer(tmp_path: Path) -> None:
    """Ctrl-C before the first token, in a conversation that has an answer already."""
    before = json.loads(run(tmp_path, "ask", "-m", "mame", "--json", "あなたは誰?").stdout)
    with ChatServer([Hang()]) as server:
        command = [*COMMAND, "ask", "-c", "--json", "-m", server.url, "もう一度"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
        )
        assert server.waiting.wait(60)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    result = json.loads(stdout)
    assert result["conversation_id"] == before["conversation_id"]
    assert result["finish_reason"] == "interrupted"
    assert (result["id"], result["answer"]) == (None, "")


def test_on_a_terminal_nothing_but_the_answer_stays(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["ask", "-m", "mame", "--temperature", "0", "あなたは誰?"]) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "豆だぬき" in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize(("background", "color"), [("ffff/ffff/f0f0", "35"), ("0000/0000/2020", "93")])
def test_an_answer_is_drawn_for_the_background(tmp_path: Path, background: str, color: str) -> None:
    told = f"\x1b]11;rgb:{background}\x1b\\"
    with ChatServer(chat_answer("`符号`です。")) as server:
        arguments = ["ask", "-m", server.url, "何?"]
        env = {"TERM": "xterm-256color"}
        with Terminal(tmp_path, arguments, env=env, before_report=told) as terminal:
            assert terminal.wait_for_exit() == 0
            assert "符号です。" in terminal.text
            assert f"\x1b[{color}m符号" in terminal.raw.decode()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_in_the_background_the_terminal_is_left_alone(tmp_path: Path) -> None:
    asked = shlex.join([*COMMAND, "ask", "-q", "-m", "mame", "--no-save", "こんにちは"])
    script = f"set -m; {asked} & wait $!; echo ended with $?"  # a job that stops is waited for no longer
    with Terminal(tmp_path, [], command=["bash", "-c", script]) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "ended with 0" in terminal.text


def test_nothing_to_ask_on_a_terminal(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["ask", "-m", "mame"]) as terminal:
        assert terminal.wait_for_exit() == 2
        assert "tanuki ask" in terminal.text


def test_offline_needs_no_network(tmp_path: Path) -> None:
    dead = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = run(tmp_path, "ask", "-m", "mame", "--offline", "こんにちは", env=dead)
    assert done.returncode == 0, done.stderr


def test_c_locale(tmp_path: Path) -> None:
    done = run(
        tmp_path, "ask", "-m", "mame", "あなたは誰?", env={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "豆だぬき" in done.stdout


def test_history_file_is_private(tmp_path: Path) -> None:
    run(tmp_path, "ask", "-m", "mame", "--max-new-tokens", "3", "こんにちは")
    until(lambda: list(tmp_path.rglob("history.sqlite3")), timeout_s=1)
    (path,) = tmp_path.rglob("history.sqlite3")
    assert path.stat().st_mode & 0o077 == 0


def test_a_later_process_goes_on_without_computing_the_past(tmp_path: Path) -> None:
    """With a model that is not the practice model by name; --no-save keeps nothing."""
    source = ROOT / "tanuki_cli" / "mame"
    model = tmp_path / "model"
    model.mkdir()
    for name in ("mame-q8_0.gguf", "tokenizer.json"):
        (model / name).write_bytes((source / name).read_bytes())
    options = ("ask", "-m", str(model), "--temperature", "0", "--json")
    run(tmp_path, *options, "--no-save", "たぬきは何を食べますか?")
    assert not list(tmp_path.rglob("*.kv"))
    first = json.loads(run(tmp_path, *options, "たぬきは何を食べますか?").stdout)
    assert list(tmp_path.rglob("*.kv"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*.kv"))
    question = "もっと教えて"
    resume = ("--resume", first["conversation_id"])
    computed = json.loads(run(tmp_path, *options, *resume, "--no-save", question).stdout)
    assert computed["usage"]["cached_tokens"] == 0
    resumed = json.loads(run(tmp_path, *options, *resume, question).stdout)
    used = first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
    assert resumed["usage"]["cached_tokens"] >= used - 2
    assert resumed["answer"] == computed["answer"]


def test_json_and_jsonl_together_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "ask", "-m", "mame", "--json", "--jsonl", "x").returncode == 2


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_traceback(tmp_path: Path, closing: str) -> None:
    command = f'exec "$@" {closing}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *COMMAND, "ask", "-m", "mame", "--no-save", "あなたは誰?"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(tmp_path),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert closing == ">&-" or "豆だぬき".encode() in done.stdout


SLOW_LOAD = """
import sys
import tanuki_cli.cli.ask
from tanuki_cli.__main__ import main
tanuki_cli.cli.ask._SLOW_LOAD_S = -1.0
main()
"""
"""The program for which every load is a slow one."""


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [((), True), (("--no-save",), False), (("--debug",), False), (("-q",), False)],
    ids=["may stay", "may not be kept", "debug", "quiet"],
)
def test_a_person_is_told_how_a_slow_model_stays_loaded(
    tmp_path: Path, arguments: tuple[str, ...], suggested: bool
) -> None:
    command = (sys.executable, "-c", SLOW_LOAD)
    model = tmp_path / "other.gguf"
    shutil.copy(practice_model().path, model)
    asked = ["ask", "-m", str(model), "--max-new-tokens", "4", *arguments, "やあ"]
    with Terminal(tmp_path, asked, command=command) as terminal:
        assert terminal.wait_for_exit() == 0, terminal.text
        assert ("keep_alive" in terminal.text) is suggested
    piped = subprocess.run(
        [*command, *asked], env=environment(tmp_path), capture_output=True, check=True, timeout=120
    )
    assert b"keep_alive" not in piped.stderr

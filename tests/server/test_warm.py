"""The model that stays loaded between commands: the real program, and really killed processes."""

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.server.warm.place import Place, find_place
from tanuki_cli.settings.values import Directories
from tests.conftest import until
from tests.support.program import COMMAND, Terminal, environment, run
from tests.support.serving import QUESTION
from tests.support.warm import keeper, kept

ASK = ("ask", "-m", "mame")
GREEDY = (*ASK, "--temperature", "0")
ENDLESS = (*ASK, "--regex", "[あ-ん]{3000}", "--max-new-tokens", "3000", "なにか")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Where a model is kept for long."""
    assert run(tmp_path, "config", "set", "keep_alive", "10m").returncode == 0
    yield tmp_path
    run(tmp_path, "stop")


def place(home: Path) -> Place:
    found = find_place(Directories.from_environment({"TANUKI_HOME": str(home)}), os.environ)
    assert found is not None
    return found


def without_chance(answer: str) -> dict[str, Any]:
    """``--json`` but for what differs from run to run: ids and times."""
    found: dict[str, Any] = json.loads(answer)
    return {name: value for name, value in found.items() if name not in ("id", "conversation_id", "timings")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "--temperature", "0", "--seed", "1", "--logprobs", "3", QUESTION),
        ("--json", "--temperature", "2", "--seed", "5", "--max-new-tokens", "30", "なにか話して"),
        ("--json", "--choices", "はい,いいえ", "--seed", "1", QUESTION),
        ("--json-object", "--temperature", "0", "--max-new-tokens", "20", QUESTION),
        ("--jsonl", "--prefill", "わたしは", "--temperature", "0", QUESTION),
        ("--score", "はい", QUESTION),
        ("-s", "短く答えて", "--stop", "。", "--temperature", "0", QUESTION),
        ("たぬき" * 5000,),
    ],
    ids=("greedy", "seed", "choices", "cut", "prefill", "score", "stop", "long"),
)
def test_everything_is_as_without_it(home: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Answers, notes, exit codes: the first and the second time, and where nothing is kept."""
    alone = run(tmp_path, *ASK, *arguments, env={"TANUKI_KEEP_ALIVE": "0"})
    assert kept(home) is None
    for _time in range(2):
        warm = run(home, *ASK, *arguments)
        assert (warm.returncode, warm.stderr) == (alone.returncode, alone.stderr)
        if "--json" in arguments:
            one, other = without_chance(warm.stdout), without_chance(alone.stdout)
            # The second time the beginning of the prompt is there already.
            assert one["usage"].pop("cached_tokens") >= other["usage"].pop("cached_tokens")
            assert one == other
        elif "--jsonl" in arguments:
            deltas = [json.loads(line).get("delta") for line in warm.stdout.splitlines()]
            assert deltas == [json.loads(line).get("delta") for line in alone.stdout.splitlines()]
        else:
            assert warm.stdout == alone.stdout
    assert kept(home) is not None


def test_one_process_answers_them_all_and_uses_its_cache(home: Path) -> None:
    first = json.loads(run(home, *GREEDY, "--json", QUESTION).stdout)
    process = keeper(home)
    again = json.loads(run(home, *GREEDY, "--json", QUESTION).stdout)
    assert keeper(home) == process
    assert (first["usage"]["cached_tokens"], again["answer"]) == (0, first["answer"])
    assert again["usage"]["cached_tokens"] == first["usage"]["prompt_tokens"] - 8
    talked = run(home, "chat", "-m", "mame", stdin=f"{QUESTION}\nありがとう\n".encode())
    assert talked.returncode == 0
    assert keeper(home) == process
    status = kept(home)
    assert status is not None
    assert status["requests"] >= 4
    assert "mame · llama.cpp" in run(home, "ps").stdout
    assert run(home, "stop").returncode == 0
    until(lambda: not process.is_running())
    assert kept(home) is None
    assert run(home, "stop").returncode == 0


def test_only_this_user_reaches_it(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    where = place(home)
    assert stat.S_IMODE(where.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(where.address.stat().st_mode) == 0o600
    assert where.folder.stat().st_uid == os.getuid()


def test_a_killed_one_is_replaced_without_a_word(home: Path) -> None:
    expected = run(home, *GREEDY, QUESTION)
    process = keeper(home)
    process.kill()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert place(home).address.exists()  # what it left
    again = run(home, *GREEDY, QUESTION)
    assert (again.returncode, again.stdout, again.stderr) == (0, expected.stdout, expected.stderr)
    assert keeper(home) != process


def test_one_killed_in_mid_answer_is_an_error_that_keeps_what_came(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    process = keeper(home)
    with Terminal(home, ENDLESS) as terminal:
        until(lambda: terminal.pump(0.05) and len(terminal.text) > 200)
        process.kill()
        assert terminal.wait_for_exit() == 6
        assert "ended before its answer did" in terminal.text.replace("\n", " ")


def test_a_chat_goes_on_after_its_model_was_stopped(home: Path) -> None:
    with Terminal(home, ["chat", "-m", "mame", "--plain"]) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send(QUESTION)
        status = kept(home)
        assert status is not None
        assert status["ends_in_s"] is None  # in use
        assert run(home, "stop").returncode == 0
        assert kept(home) is None
        terminal.send("ありがとう")
        assert "Error" not in terminal.text
        assert kept(home) is not None


def test_ctrl_c_stops_the_answer_and_not_the_model(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    process = keeper(home)
    with Terminal(home, ENDLESS) as terminal:
        until(lambda: terminal.pump(0.05) and len(terminal.text) > 200)
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
    until(lambda: (kept(home) or {})["running"] == 0)
    assert keeper(home) == process
    assert run(home, *GREEDY, QUESTION).returncode == 0


def test_a_client_that_is_killed_stops_its_answer(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    with subprocess.Popen([*COMMAND, *ENDLESS], env=environment(home), stdout=subprocess.PIPE) as client:
        until(lambda: (kept(home) or {})["running"] == 1)
        client.kill()
    until(lambda: (kept(home) or {})["running"] == 0)
    assert run(home, *GREEDY, QUESTION).returncode == 0


def test_several_at_once_start_one_and_wait_for_each_other(home: Path) -> None:
    clients = [
        subprocess.Popen([*COMMAND, *GREEDY, QUESTION], env=environment(home), stdout=subprocess.PIPE)
        for _number in range(4)
    ]
    answers = {client.communicate(timeout=240)[0] for client in clients}
    assert [client.returncode for client in clients] == [0] * 4
    assert len(answers) == 1
    status = kept(home)
    assert status is not None
    assert status["requests"] == 4


def test_other_loading_options_have_a_model_of_their_own(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    process = keeper(home)
    assert run(home, *GREEDY, "--context-length", "512", QUESTION).returncode == 0
    assert keeper(home) != process  # nobody used the other one: its memory is free again
    until(lambda: not process.is_running())
    process = keeper(home)
    with Terminal(home, ["chat", "-m", "mame", "--context-length", "512"]) as terminal:
        terminal.wait_for_prompt(0)
        assert run(home, *GREEDY, QUESTION).returncode == 0  # loaded for itself
        assert keeper(home) == process


def test_one_model_is_one_whatever_it_is_called(home: Path, tmp_path: Path) -> None:
    """By a relative path, by a link, offline, with another key: nothing of it is loaded differently."""
    folder = tmp_path / "models"
    folder.mkdir()
    for file in practice_model().path.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model = next(folder.glob("*.gguf"))
    (tmp_path / "link").symlink_to(folder)
    # The same name, size and time in another folder is another model all the same.
    other = tmp_path / "others"
    shutil.copytree(folder, other)
    first = json.loads(run(home, "ask", "--json", "-m", str(model), QUESTION).stdout)
    assert first["model"] == str(model)
    process = keeper(home)
    for name, cwd, env in (
        (f"./{model.name}", folder, {}),
        (str(tmp_path / "link" / model.name), tmp_path, {}),
        (str(model), tmp_path, {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_x", "TANUKI_OFFLINE": "1"}),
    ):
        done = run(home, "ask", "--json", "-m", name, QUESTION, cwd=cwd, env=env)
        assert json.loads(done.stdout)["model"] == str(Path(name)), done.stderr
        assert keeper(home) == process, name
    assert run(home, "ask", "-m", f"./{model.name}", QUESTION, cwd=other).returncode == 0
    assert keeper(home) != process


def test_one_that_nobody_can_reach_ends(home: Path) -> None:
    """Its socket was cleared away, or another took its place: neither leaves a model in memory."""
    first = run(home, *GREEDY, QUESTION)
    process = keeper(home)
    place(home).address.unlink()
    again = run(home, *GREEDY, QUESTION)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, first.stderr)
    assert keeper(home) != process
    until(lambda: not process.is_running())
    assert place(home).address.exists()  # the new one's
    assert run(home, *GREEDY, QUESTION).returncode == 0


def test_what_is_not_to_be_kept_is_not_given_to_it(home: Path) -> None:
    assert run(home, *GREEDY, "--no-save", QUESTION).returncode == 0
    assert kept(home) is None
    run(home, *GREEDY, QUESTION)
    before = kept(home)
    assert before is not None
    assert run(home, *GREEDY, "--no-save", QUESTION).returncode == 0
    after = kept(home)
    assert after is not None
    assert after["requests"] == before["requests"]


def test_forgetting_a_conversation_ends_what_computed_it(home: Path) -> None:
    asked = json.loads(run(home, *GREEDY, "--json", QUESTION).stdout)
    process = keeper(home)
    assert run(home, "history", "rm", asked["conversation_id"], "--yes").returncode == 0
    until(lambda: not process.is_running())


def test_it_ends_after_its_time(tmp_path: Path) -> None:
    run(tmp_path, "config", "set", "keep_alive", "1s")
    assert run(tmp_path, *GREEDY, QUESTION).returncode == 0
    until(lambda: kept(tmp_path) is None)
    assert not place(tmp_path).address.exists()


def test_it_ends_at_a_signal(home: Path) -> None:
    run(home, *GREEDY, QUESTION)
    process = keeper(home)
    process.send_signal(signal.SIGTERM)
    until(lambda: not process.is_running())
    assert not place(home).address.exists()


def test_what_cannot_be_loaded_is_the_same_error(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    alone = run(tmp_path, "ask", "-m", str(broken), "x", env={"TANUKI_KEEP_ALIVE": "0"})
    warm = run(home, "ask", "-m", str(broken), "x")
    assert (warm.returncode, warm.stderr) == (alone.returncode, alone.stderr)
    assert kept(home) is None


def test_the_setting_takes_times_only(tmp_path: Path) -> None:
    for value in ("soon", "-5", "10 minutes", "99999d"):
        done = run(tmp_path, "config", "set", "keep_alive", "--", value)
        assert done.returncode in (2, 3), value
    for value in ("0", "90", "90s", "１０ｍ", "2h", "1d", "forever"):
        assert run(tmp_path, "config", "set", "keep_alive", value).returncode == 0, value

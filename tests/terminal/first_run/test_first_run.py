"""The first chat: what is offered, and the practice model that talks until the real one is here.

The hub serves the practice model's own files under the real one's name, so that what was downloaded
can be chatted with.
"""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.history import HistoryStore
from tanuki_cli.machine.hardware import inspect_machine
from tests.conftest import until
from tests.support.hub_server import Fault, Hub, digest_of, running_hub
from tests.support.program import Terminal, run

MODEL = "tanuki-8b:q4_k_m"
CHAT = ("chat", "-m", MODEL, "--temperature", "0")
WEIGHTS = practice_model().path.read_bytes()
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def hub() -> Iterator[Hub]:
    tokenizer = practice_model().tokenizer
    assert tokenizer is not None
    with running_hub() as hub:
        hub.add("team-hatakeyama-phase2/Tanuki-8B-dpo-v1.0-GGUF", {"Tanuki-8B-dpo-v1.0-Q4_K_M.gguf": WEIGHTS})
        hub.add("weblab-GENIAC/Tanuki-8B-dpo-v1.0", {"tokenizer.json": tokenizer.read_bytes()})
        yield hub


@pytest.fixture
def slow(hub: Hub) -> Fault:
    """Lets the weights come within two minutes, or, once it is released, at once."""
    fault = Fault(pattern=f"content/{digest_of(WEIGHTS)}", bytes_per_s=len(WEIGHTS) // 120)
    hub.faults.append(fault)
    return fault


def open_offer(
    home: Path, hub: Hub, *arguments: str, lang: str = "en", columns: int = 80, lines: int = 24
) -> Terminal:
    env = {"HF_ENDPOINT": hub.url, "TANUKI_LANG": lang}
    terminal = Terminal(home, arguments or CHAT, env=env, columns=columns, lines=lines)
    terminal.wait_for("[1]")
    return terminal


def accept(terminal: Terminal) -> None:
    """Enter: the practice model, and the download beside it."""
    terminal.type("\r")
    terminal.wait_for_prompt(0)


def wait(terminal: Terminal, condition: Callable[[], object]) -> None:
    """Until ``condition`` holds; what the program prints meanwhile is taken."""

    def holds() -> object:
        terminal.pump(0.05)
        return condition()

    until(holds)


def wait_for_status(terminal: Terminal, text: str) -> None:
    """Until the status line shows ``text``."""
    wait(terminal, lambda: text in terminal.screen.window[-1])


def child_of(terminal: Terminal) -> psutil.Process:
    """The download's process."""
    [child] = psutil.Process(terminal.process.pid).children()
    return child


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that nobody has reaped yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def questions(home: Path) -> list[str]:
    [path] = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        [summary] = store.list()
        return [node.message.content for node in store.load(summary.id).path_nodes()][::2]


@pytest.mark.parametrize("lang", ["ja", "en"])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 15)])
def test_the_offer_is_one_screen(hub: Hub, tmp_path: Path, columns: int, lines: int, lang: str) -> None:
    with open_offer(tmp_path, hub, lang=lang, columns=columns, lines=lines) as terminal:
        text = "\n".join(terminal.screen.window)
        assert terminal.screen.scrollback == []
        for part in (MODEL, "4.5 GB", "100 Mbps", " 1  ", " 2  ", " 3  ", " 4  ", " l  "):
            assert part in text
        assert ("未ダウンロード" in text) == (lang == "ja")
        assert hub.requests == []  # nobody was asked before the user agreed


def test_the_recommended_model_is_offered_with_its_reason(hub: Hub, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub, "chat") as terminal:
        assert "This machine: " in terminal.text
        assert "Recommended: tanuki-8b:" in terminal.text
        assert "it takes about" in terminal.text.replace("\n", " ")


def test_the_language_can_be_changed_at_the_offer(hub: Hub, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as terminal:
        terminal.type("l\r")
        terminal.wait_for("番号を選んでください")
        terminal.type("３\r")
        terminal.wait_for("豆だぬきは小さな練習用モデル")
        assert hub.requests == []


def test_the_practice_model_talks_until_the_real_one_takes_over(
    hub: Hub, slow: Fault, tmp_path: Path
) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        assert f"{MODEL} takes this chat over" in terminal.text.replace("\n", " ")
        wait_for_status(terminal, " left · ")
        terminal.send("あなたは誰?")
        wait_for_status(terminal, "mame (practice) · download ")
        slow.release.set()
        wait_for_status(terminal, f"{MODEL} is downloaded")
        assert "answers from now on" not in terminal.text
        terminal.send("ありがとう")
        assert f"{MODEL} answers from now on." in terminal.text
        wait_for_status(terminal, f"{MODEL} · ")
        terminal.send("こんにちは")
        assert terminal.text.count("answers from now on") == 1
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0
    assert questions(tmp_path) == ["あなたは誰?", "ありがとう", "こんにちは"]
    assert run(tmp_path, "ask", "-m", MODEL, "--offline", "こんにちは").returncode == 0


def test_a_model_that_the_user_chose_meanwhile_stays(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        terminal.send("/model mame")
        slow.release.set()
        wait_for_status(terminal, "is downloaded")
        terminal.send("こんにちは")
        assert f"{MODEL} is here: /model {MODEL}" in terminal.text
        wait_for_status(terminal, "mame (practice)")


def test_the_model_under_way_cannot_be_chosen_yet(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        wait_for_status(terminal, " left · ")
        terminal.send(f"/model {MODEL}")
        assert "still on its way: download " in terminal.text


def test_a_download_that_fails_is_told_and_the_practice_model_stays(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="api/models", status=403, headers={"X-Error-Code": "GatedRepo"}))
    with open_offer(tmp_path, hub, lang="ja") as terminal:
        accept(terminal)
        wait_for_status(terminal, "ダウンロード失敗")
        terminal.send("あなたは誰?")
        text = terminal.text.replace("\n", "")
        assert "利用には所有者の許可が必要です。" in text
        assert "HF_TOKEN" in text
        assert "豆だぬき。Tanuki の練習用" in terminal.text.replace("\n", "")
        wait_for_status(terminal, "mame（練習用） · ")
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0


@pytest.mark.parametrize("ask", ["こんにちは", "/model"])
def test_a_download_that_is_killed_is_told(hub: Hub, slow: Fault, tmp_path: Path, ask: str) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        wait_for_status(terminal, " left · ")
        child_of(terminal).kill()
        wait_for_status(terminal, "the download failed (why: /model)")
        terminal.send(ask)
        assert "ended unexpectedly (code -9)" in terminal.text
        if ask == "こんにちは":  # the reason is no part of the answer
            answer, _mark, _reason = terminal.text.partition("ended unexpectedly")
            assert "豆だぬき" in answer.rpartition("> こんにちは")[2]
        assert f"tanuki pull {MODEL}" in terminal.text


def test_leaving_asks_and_the_download_resumes_later(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        wait_for_status(terminal, " left · ")
        child = child_of(terminal)
        before = terminal.prompts
        terminal.type(CTRL_D)
        terminal.wait_for("%). Stop that and leave? [Y/n]")
        terminal.type("n\r")
        terminal.wait_for_prompt(before)
        assert is_alive(child)
        terminal.type("/exit\r")
        wait(terminal, lambda: terminal.text.count("Stop that and leave?") == 2)
        terminal.type("\r")
        assert terminal.wait_for_exit() == 0
        assert not is_alive(child)
        assert "The download stopped at " in terminal.text
        assert f"  tanuki pull {MODEL}" in terminal.text
    with open_offer(tmp_path, hub) as terminal:
        assert "Download, rest: " in terminal.text
        terminal.type(CTRL_C)
        assert terminal.wait_for_exit() == 130
    slow.release.set()
    assert run(tmp_path, "pull", MODEL, env={"HF_ENDPOINT": hub.url}).returncode == 0
    first, second = hub.ranges(digest_of(WEIGHTS))
    assert first is None
    assert re.fullmatch(r"bytes=[1-9]\d*-", second or "")


def test_ctrl_c_in_the_chat_does_not_stop_the_download(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub, *CHAT, "--temperature", "2", "--max-new-tokens", "100000") as terminal:
        accept(terminal)
        wait_for_status(terminal, " left · ")
        before = terminal.prompts
        terminal.type("長い話をして\r")
        until(lambda: terminal.pump(0.05) and list(tmp_path.rglob("history.sqlite3")))
        terminal.interrupt()
        terminal.wait_for_prompt(before)
        if "Stopped." in terminal.text:  # else a short answer was over before, and the prompt had the key
            terminal.interrupt()
            wait_for_status(terminal, "Press Ctrl-C again to leave.")
        slow.release.set()
        wait_for_status(terminal, "is downloaded")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_the_download_ends_with_a_chat_that_is_killed(
    hub: Hub, slow: Fault, tmp_path: Path, how: signal.Signals
) -> None:
    with open_offer(tmp_path, hub) as terminal:
        accept(terminal)
        wait_for_status(terminal, " left · ")
        child = child_of(terminal)
        os.kill(terminal.process.pid, how)
        wait(terminal, lambda: not is_alive(child))
    assert list((tmp_path / "hf").rglob("*.incomplete"))


def test_the_status_line_shows_speed_and_time_left(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub, lang="ja") as terminal:
        accept(terminal)
        wait_for_status(terminal, "残り 1:")
        wait_for_status(terminal, "kB/s")
        slow.release.set()
        wait_for_status(terminal, f"{MODEL} のダウンロード完了")


@pytest.mark.parametrize("columns", [40, 20])
def test_a_narrow_status_line_shows_the_download(hub: Hub, slow: Fault, tmp_path: Path, columns: int) -> None:
    with open_offer(tmp_path, hub, columns=columns, lines=15) as terminal:
        accept(terminal)
        wait(terminal, lambda: re.search(r"download \d+ %", terminal.screen.window[-1]))
        slow.release.set()
        wait_for_status(terminal, MODEL)


def test_two_chats_at_once_download_once(hub: Hub, slow: Fault, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as left, open_offer(tmp_path, hub) as right:
        accept(left)
        wait_for_status(left, " left · ")
        accept(right)
        wait_for_status(right, "Another process is downloading this file.")
        slow.release.set()
        for terminal in (left, right):
            wait_for_status(terminal, "is downloaded")
            terminal.send("こんにちは")
            assert "answers from now on" in terminal.text
    assert len(hub.ranges(digest_of(WEIGHTS))) == 1


def test_download_first(hub: Hub, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub) as terminal:
        terminal.type("2\r")
        terminal.wait_for_prompt(0)
        assert f"{MODEL} is ready: " in terminal.text
        wait_for_status(terminal, f"{MODEL} · 0/")


@pytest.mark.parametrize("leaves", ["4\r", "ｑ\r", "いいえ\r", CTRL_D])
def test_neither(hub: Hub, tmp_path: Path, leaves: str) -> None:
    with open_offer(tmp_path, hub) as terminal:
        assert re.search(r"Speed here, by its memory: about [\d,]+ characters a minute", terminal.text)
        terminal.type("9\r")
        terminal.wait_for("Please answer 1, 2, 3, 4 or l.")
        terminal.type(leaves)  # perhaps before the question is asked again
        assert terminal.wait_for_exit() == 0
        assert "Nothing was downloaded. Later: tanuki chat" in terminal.text
    assert hub.requests == []


def test_the_events_of_a_pull(hub: Hub, tmp_path: Path) -> None:
    done = run(tmp_path, "pull", "--json", MODEL, env={"HF_ENDPOINT": hub.url})
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "progress"
    assert events[0]["bytes_total"] > len(WEIGHTS)
    assert events[-1].keys() == {"event", "name", "path", "size_bytes", "revision"}
    assert (events[-1]["event"], events[-1]["name"]) == ("ready", MODEL)
    assert Path(events[-1]["path"]).read_bytes() == WEIGHTS


def test_the_event_of_a_pull_that_fails(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="api/models", status=403))
    done = run(tmp_path, "pull", "--json", MODEL, env={"HF_ENDPOINT": hub.url})
    [event] = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 5
    assert event["event"] == "error"
    assert event["exit_code"] == 5
    assert event["message"] in done.stderr


def test_the_next_estimate_uses_the_speed_of_the_last_download(hub: Hub, tmp_path: Path) -> None:
    hub.add("owner/large", {"large.gguf": bytes(51_000_000)})
    assert run(tmp_path, "pull", "hf:owner/large", env={"HF_ENDPOINT": hub.url}).returncode == 0
    with open_offer(tmp_path, hub) as terminal:
        assert re.search(r"about [\d hmin]+ at the last speed, ", terminal.text)
        assert "100 Mbps" not in terminal.text


def test_an_offer_says_what_the_model_would_need(hub: Hub, tmp_path: Path) -> None:
    with open_offer(tmp_path, hub, "chat", "-m", "tanuki-8x8b:full") as terminal:
        shown = terminal.text.replace("\n", " ")
    has_gpu = bool(inspect_machine(os.environ).free_vram_bytes)
    needed = "It needs about 95.7 GB, but only " if has_gpu else "It needs an NVIDIA GPU with about 95.7 GB"
    assert needed in shown


def test_a_refused_model_is_not_offered(hub: Hub, tmp_path: Path) -> None:
    with Terminal(tmp_path, ["chat", "-m", "tanuki-8x8b:q4_k_m"], env={"HF_ENDPOINT": hub.url}) as terminal:
        assert terminal.wait_for_exit() == 4
        assert "is refused" in terminal.text
    assert hub.requests == []

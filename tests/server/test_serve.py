"""``tanuki serve`` as a command: its ready line, its signals, its keys, and what it leaves behind."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx2
import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.errors import InputError
from tanuki_cli.server.running import listen
from tests.conftest import until
from tests.support.program import Terminal, run
from tests.support.serving import ENDLESS, QUESTION, serving

CHAT = "/v1/chat/completions"
KEY = "a-key-of-the-test"


def test_it_says_where_it_is_and_ends_at_a_signal(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(tmp_path) as server:
            assert server.ready.split(" · ")[1] == "mame"
            server.process.send_signal(number)
            assert server.process.wait(60) == 0
            assert "tanuki help serve" in server.said


def test_on_a_terminal_its_last_line_is_whole(tmp_path: Path) -> None:
    """Ctrl-C shows itself there, before anything is said of it."""
    with Terminal(tmp_path, ["serve", "-m", "mame", "--port", "0"]) as terminal:
        terminal.wait_for("tanuki help serve")
        terminal.interrupt()
        assert terminal.wait_for_exit() == 0
        assert "\nEnding: running answers have" in terminal.text


def test_a_running_answer_may_finish(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answers: list[httpx2.Response] = []
        body = {**ENDLESS, "max_tokens": 400}
        asking = threading.Thread(target=lambda: answers.append(server.post(CHAT, body)))
        asking.start()
        until(lambda: server.metric("requests_running") >= 1)
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert answers[0].json()["usage"]["completion_tokens"] == 400
        assert server.process.wait(60) == 0


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = json.dumps({**ENDLESS, "n": 64}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with server.connect() as connection:
            connection.sendall(head.encode() + body)
            until(lambda: server.metric("requests_running") >= 1)
            server.process.send_signal(signal.SIGINT)
            until(lambda: "Ending" in server.said)
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(60) == 130


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# those of the test\n{KEY}\nanother-key\n", encoding="utf-8")
    path.chmod(0o600)
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}
    arguments = ("--host", "0.0.0.0", "--api-key-file", str(path))
    with serving(tmp_path, *arguments, env={"TANUKI_SERVER_API_KEY": "third-key"}) as server:
        assert server.get("/health").status_code == 200
        assert "mame" not in server.get("/").text
        for given in ("", "Bearer wrong-key", KEY, "Bearer"):
            headers = {"authorization": given}
            refused = server.post(CHAT, body, **headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert server.get("/v1/models", **headers).status_code == 401
            assert server.get("/metrics", **headers).status_code == 401
        for key in (KEY, "another-key", "third-key"):
            assert server.post(CHAT, body, authorization=f"Bearer {key}").status_code == 200
        # A proxy passes on the name that its clients use.
        headers = {"authorization": f"Bearer {KEY}", "host": "tanuki.example"}
        assert server.post(CHAT, body, **headers).status_code == 200
        asked = run(tmp_path, "ask", "-m", f"{server.address}/v1", QUESTION, env={"TANUKI_API_KEY": KEY})
        assert asked.returncode == 0
        assert server.process.poll() is None


def test_what_is_not_safe_is_refused(tmp_path: Path) -> None:
    open_file = tmp_path / "open.txt"
    open_file.write_text(KEY, encoding="utf-8")
    open_file.chmod(0o644)
    short = tmp_path / "short.txt"
    short.write_text("x\n", encoding="utf-8")
    short.chmod(0o600)
    for arguments, words in (
        (["--host", "0.0.0.0"], "key is needed"),
        (["--api-key-file", str(open_file)], "others can read it"),
        (["--api-key-file", str(short)], "cannot be one"),
        (["--api-key-file", str(tmp_path / "none")], "no such file"),
        (["--allow-origin", "*"], "needs a key"),
        (["--port", "x"], "--port"),
        (["--parallel", "0"], "--parallel"),
        (["--keep-alive", "soon"], "--keep-alive"),
        (["--host", "no.such.host.invalid"], "no machine"),
    ):
        done = run(tmp_path, "serve", "-m", "mame", "--port", "0", *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr, (arguments, done.stderr)
        assert KEY not in done.stdout + done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run(tmp_path, "serve", "-m", "mame", "--port", str(other.getsockname()[1]))
    assert done.returncode == 2
    assert "another program listens there" in done.stderr


@pytest.mark.parametrize(
    ("host", "port", "hint"),
    [
        ("no.such.host.invalid", 8264, "tanuki serve --host 127.0.0.1"),
        ("no..host", 8264, "tanuki serve --host 127.0.0.1"),
        ("192.0.2.1", 8264, "tanuki serve --host 127.0.0.1"),  # kept for documents: no machine's
        ("127.0.0.1", 80, "tanuki serve --port 8264"),
        ("127.0.0.1", 9000, "tanuki serve --port 9001"),
        ("127.0.0.1", 65535, "tanuki serve --port 8264"),
    ],
)
def test_the_hint_is_about_what_was_wrong(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int, hint: str
) -> None:
    def refuse(_listener: socket.socket, address: tuple[str, int]) -> None:
        assert address[0] == "127.0.0.1"  # others are refused by the system itself
        raise PermissionError(errno.EACCES, "")

    if host == "127.0.0.1":
        monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(InputError) as caught:
        listen(host, port)
    assert caught.value.hint == hint


def test_a_named_page_may_ask(tmp_path: Path) -> None:
    page = "https://chat.example"
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}
    with serving(tmp_path, "--allow-origin", f"{page}/") as server:
        preflight = httpx2.options(
            server.address + CHAT,
            headers={
                "origin": page,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )
        assert preflight.status_code == 200
        answer = server.post(CHAT, body, origin=page)
        assert answer.headers["access-control-allow-origin"] == page
        assert server.post(CHAT, body, origin="https://other.example").status_code == 403


def test_the_model_is_freed_and_comes_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--keep-alive", "1s") as server:
        first = server.chat()
        until(lambda: server.metric("model_loaded") == 0)
        assert server.get("/v1/models").json()["data"][0]["id"] == "mame"
        assert server.chat()["choices"] == first["choices"]
        assert server.metric("model_loaded") == 1


def test_nothing_of_a_text_is_kept(tmp_path: Path) -> None:
    """Not in a log, the history or a cache, also with --debug and after an error."""
    secret, code = "ひみつの合言葉", "ひみつ".encode()
    with serving(tmp_path, "--debug") as server:
        server.chat(f"{secret}をおぼえて", max_tokens=8)
        server.post(CHAT, {"messages": [{"role": secret, "content": secret}]})
        server.process.send_signal(signal.SIGTERM)
        stdout, _stderr = server.process.communicate(timeout=60)
        assert secret not in stdout + server.said
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and code in path.read_bytes()]
    assert kept == []


def test_chats_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    """A client sends the whole conversation every time: it stays one."""
    messages = [{"role": "system", "content": "短く答えて"}, {"role": "user", "content": QUESTION}]
    with serving(tmp_path, "--save") as server:
        first = server.post(CHAT, {"messages": messages, "temperature": 0}).json()["choices"][0]["message"]
        more = [*messages, first, {"role": "user", "content": "ありがとう"}]
        streamed = server.post(CHAT, {"messages": more, "stream": True, "max_tokens": 4})
        assert streamed.text.endswith("[DONE]\n\n")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    [kept] = json.loads(run(tmp_path, "history", "list", "--json").stdout)["conversations"]
    shown = run(tmp_path, "history", "show", kept["id"]).stdout
    for text in (QUESTION, first["content"], "ありがとう"):
        assert text in shown


def test_a_file_is_called_by_its_name_and_a_server_by_ours(tmp_path: Path) -> None:
    """No client needs to know our folders."""
    practice = practice_model()
    assert practice.tokenizer is not None
    shutil.copy(practice.path, tmp_path / "small.gguf")
    shutil.copy(practice.tokenizer, tmp_path / "tokenizer.json")
    with serving(tmp_path, model=str(tmp_path / "small.gguf")) as server:
        assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["small.gguf"]
        for name in ("small.gguf", str(tmp_path / "small.gguf"), "tanuki"):
            assert server.chat(max_tokens=1, model=name)["model"] == "small.gguf"
        run(tmp_path, "config", "set", "remotes.lab", f"{server.address}/v1")
        with serving(tmp_path, model="lab") as other:
            assert [model["id"] for model in other.get("/v1/models").json()["data"]] == ["lab"]
            assert other.chat(model="lab")["choices"] == server.chat()["choices"]


def test_a_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    """Also one of which a byte comes now and then, and a client that says nothing."""
    with serving(tmp_path) as server, server.connect() as silent, server.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")

        def trickle() -> bool:
            try:
                slow.sendall(b"X: 1\r\n")
            except OSError:
                return True
            return False

        until(trickle, timeout_s=120)
        silent.settimeout(120)
        assert silent.recv(1) == b""
        assert server.get("/health").status_code == 200


def test_an_engine_that_is_killed_with_it_leaves_no_socket(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        address = server.address
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(60)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(address)
    assert isinstance(subprocess.PIPE, int)

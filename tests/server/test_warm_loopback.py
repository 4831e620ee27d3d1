"""The model that stays loaded, on a port of loopback: the way of systems that have no Unix sockets."""

import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tanuki_cli.server.warm.place import TRANSPORT, Place, find_place
from tanuki_cli.settings.values import Directories
from tests.conftest import until
from tests.support.program import COMMAND, Terminal, environment, run
from tests.support.serving import QUESTION
from tests.support.warm import keeper, kept

ENV = {TRANSPORT: "loopback", "TANUKI_KEEP_ALIVE": "10m"}
GREEDY = ("ask", "-m", "mame", "--temperature", "0")
ENDLESS = ("ask", "-m", "mame", "--regex", "[あ-ん]{3000}", "--max-new-tokens", "3000", "なにか")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    run(tmp_path, "stop", env=ENV)


def ask(home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run(home, *GREEDY, *more, QUESTION, env=ENV)


def place(home: Path) -> Place:
    found = find_place(Directories.from_environment({"TANUKI_HOME": str(home)}), {TRANSPORT: "loopback"})
    assert found is not None
    assert found.loopback
    return found


def port(home: Path) -> int:
    return int(json.loads(place(home).address.read_text())["port"])


def test_it_is_as_on_a_unix_socket(home: Path) -> None:
    alone = run(home, *GREEDY, QUESTION)
    first = ask(home)
    assert (first.returncode, first.stdout, first.stderr) == (0, alone.stdout, alone.stderr)
    process = keeper(home, ENV)
    again = json.loads(ask(home, "--json").stdout)
    assert again["usage"]["cached_tokens"] > 0
    assert keeper(home, ENV) == process
    address = place(home).address
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert {one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"} == {"127.0.0.1"}
    assert run(home, "stop", env=ENV).returncode == 0
    until(lambda: not process.is_running())
    assert not address.exists()


def test_ctrl_c_and_a_kill_stop_the_answer_and_not_the_model(home: Path) -> None:
    assert ask(home).returncode == 0
    process = keeper(home, ENV)
    with Terminal(home, ENDLESS, env=ENV) as terminal:
        until(lambda: terminal.pump(0.05) and len(terminal.text) > 200)
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
    with subprocess.Popen(
        [*COMMAND, *ENDLESS], env=environment(home, **ENV), stdout=subprocess.PIPE
    ) as client:
        until(lambda: (kept(home, ENV) or {})["running"] == 1)
        client.kill()
    until(lambda: (kept(home, ENV) or {})["running"] == 0)
    assert keeper(home, ENV) == process


def test_who_does_not_know_the_secret_is_told_nothing(home: Path) -> None:
    assert ask(home).returncode == 0
    for said in (os.urandom(64) + b'{"op": "status"}', b"GET / HTTP/1.1\r\n\r\n" * 8, b""):
        with socket.create_connection(("127.0.0.1", port(home)), timeout=30) as stranger:
            stranger.sendall(said)
            received = b""
            try:
                while part := stranger.recv(4096):
                    received += part
            except ConnectionError:
                pass
        assert len(received) in (0, 64)  # a question of its own and a proof, and nothing else
    assert ask(home).returncode == 0


@pytest.mark.parametrize("says", [b"x" * 64, b"", None], ids=["nonsense", "nothing", "closes"])
def test_another_program_on_the_port_of_a_dead_one_learns_nothing(home: Path, says: bytes | None) -> None:
    expected = ask(home)
    process, address = keeper(home, ENV), place(home).address
    process.kill()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    received: list[bytes] = []

    def pretend(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        listener.close()  # what comes later is refused at once
        with connection:
            received.append(connection.recv(4096))
            if says:
                connection.sendall(says)
            if says is not None:
                received.append(connection.recv(4096))

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        # The system gives a port to another one only after minutes.
        known = json.loads(address.read_text())
        address.write_text(json.dumps({**known, "port": listener.getsockname()[1]}))
        pretending = threading.Thread(target=pretend, args=(listener,), daemon=True)
        pretending.start()
        again = ask(home)
    pretending.join(60)
    assert (again.returncode, again.stdout, again.stderr) == (0, expected.stdout, expected.stderr)
    assert [len(part) for part in received] in ([32], [32, 0])
    assert keeper(home, ENV) != process

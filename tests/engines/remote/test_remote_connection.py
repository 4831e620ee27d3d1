import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.remote.credentials import ApiKey, environment_variable, find_api_key
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.http import RemoteConnection, RemoteTimeouts
from tanuki_cli.engines.remote.sockets import CancelFlag
from tanuki_cli.errors import RemoteError, SettingsError
from tanuki_cli.sampling import SamplingOptions
from tests.conftest import until
from tests.support.chat_server import ChatServer, Hang, Status, chat, chat_answer

SECRET = "sk-tanuki-0123456789abcdef"
KEY = ApiKey(SECRET, "the test")
QUESTION = [Message("user", "たぬきは?")]


def answer(engine: RemoteEngine) -> str:
    return "".join(chunk.text for chunk in engine.stream(QUESTION, SamplingOptions(max_new_tokens=2048)))


def refusal(base_url: str, *, api_key: ApiKey | None = None) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        RemoteEngine(RemoteModel(name="lab", base_url=base_url), api_key=api_key)
    return caught.value


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_a_trusted_certificate(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    long = [f"{number}、" for number in range(2000)]
    with ChatServer(chat_answer(*long), certificate=certificate.configure_cert) as server:
        engine = RemoteEngine(RemoteModel(name="lab", base_url=server.url), api_key=KEY)
        assert answer(engine) == "".join(long)
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("host", ["127.0.0.1", "other.example"])
def test_an_untrusted_certificate(
    host: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = authority if host == "other.example" else trustme.CA()
    trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with ChatServer(certificate=authority.issue_cert(host).configure_cert) as server:
        error = refusal(server.url)
        assert server.requests == []
    assert "is not trusted" in error.message
    assert error.hint is not None
    assert "SSL_CERT_FILE" in error.hint


def test_tls_where_there_is_none() -> None:
    with ChatServer() as server:
        error = refusal(server.url.replace("http:", "https:"))
    assert "No encrypted connection" in error.message
    assert error.hint is not None
    assert "http://" in error.hint


def test_a_server_that_waits_for_more_than_the_greeting_of_tls() -> None:
    """llama-server does: it reads on for a line of HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = RemoteConnection(
            f"https://127.0.0.1:{listener.getsockname()[1]}/v1",
            api_key=None,
            timeouts=RemoteTimeouts(connect=0.3),
            flag=CancelFlag(),
        )
        with pytest.raises(RemoteError, match="No encrypted connection") as error:
            connection.get(connection.address.api("/models"))
    assert "http://" in (error.value.hint or "")


def test_no_tls_where_there_is_some(authority: trustme.CA) -> None:
    with ChatServer(certificate=authority.issue_cert("127.0.0.1").configure_cert) as server:
        error = refusal(server.url.replace("https:", "http:"))
    assert "closed the connection" in error.message
    assert "https://" in (error.hint or "")


# Proxies


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(chat_answer("はい")) as proxy:
        # As a proxy it is asked for whole addresses, which are not its own pages.
        pages = {"http://tanuki.example/v1/models": proxy.page("/v1/models", {})}
        proxy.add_pages(pages)
        for name in ("http_proxy", "all_proxy", "no_proxy", "NO_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{proxy.port}")
        engine = RemoteEngine(RemoteModel(name="lab", base_url="http://tanuki.example/v1"))
        assert answer(engine) == "はい"
        assert proxy.headers_seen[0]["proxy-authorization"].startswith("Basic ")
        assert proxy.requests[0].path == "http://tanuki.example/v1/chat/completions"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("socks5://127.0.0.1:9", "needs the package socksio"),
        ("what://user:secret@127.0.0.1:9", "address of the proxy"),
        ("http://user:secret@127.0.0.1:port", "address of the proxy"),
        ("http://user:secret@127.0.0.1:9", "The proxy does not let the request through: nothing listens"),
    ],
)
def test_proxies_that_cannot_be_used(address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", address)
    monkeypatch.setattr("tanuki_cli.engines.remote.transport.find_spec", lambda name: None)
    error = refusal("http://tanuki.example/v1")
    assert reason in error.message
    assert error.hint
    assert "secret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "-", "no.invalid"])
def test_hosts_that_are_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    assert "no machine has this name" in refusal(f"http://{host}/v1").message


def test_this_machine_is_reached_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ChatServer(chat_answer("はい")) as server:
        assert answer(RemoteEngine(RemoteModel(name="lab", base_url=server.url))) == "はい"


# Cancelling


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that answers to no connection: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


def test_a_cancel_while_connecting() -> None:
    flag = CancelFlag()
    with full_backlog() as port:
        connection = RemoteConnection(
            f"http://127.0.0.1:{port}/v1", api_key=None, timeouts=RemoteTimeouts(connect=30), flag=flag
        )
        threading.Timer(0.2, flag.set).start()
        started = time.monotonic()
        with pytest.raises(GenerationCancelled):
            connection.get(connection.address.api("/models"))
        assert 0.1 < time.monotonic() - started < 5


def test_a_host_that_does_not_answer() -> None:
    with full_backlog() as port:
        connection = RemoteConnection(
            f"http://127.0.0.1:{port}/v1",
            api_key=None,
            timeouts=RemoteTimeouts(connect=0.3),
            flag=CancelFlag(),
        )
        with pytest.raises(RemoteError, match="did not answer in time"):
            connection.get(connection.address.api("/models"))


def test_a_cancel_over_tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    with ChatServer([chat("はい"), Hang()], certificate=certificate.configure_cert) as server:
        engine = RemoteEngine(RemoteModel(name="lab", base_url=server.url))
        chunks = []
        for chunk in engine.stream(QUESTION, SamplingOptions()):
            chunks.append(chunk)
            if chunk.text:
                threading.Timer(0.2, engine.cancel).start()
        until(server.disconnected.is_set)
    assert chunks[-1].finish_reason == "interrupted"


# API keys


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(f'lab = "{SECRET}"\n"http://host:1/v1" = "other"\n', encoding="utf-8")
    path.chmod(0o600)
    return path


def test_where_a_key_comes_from(key_file: Path) -> None:
    def find(name: str, **environ: str) -> tuple[str, str] | None:
        key = find_api_key(name, environ=environ, key_file=key_file, named_by_user=True)
        return (key.value, key.source) if key else None

    assert find("lab", TANUKI_API_KEY_LAB=" a\n", TANUKI_API_KEY="b") == ("a", "TANUKI_API_KEY_LAB")
    assert find("lab", TANUKI_API_KEY="b") == find("lab") == find("Lab") == (SECRET, str(key_file))
    assert find("http://host:1/v1") == ("other", str(key_file))
    assert find("http://host:1/v1", TANUKI_API_KEY="b") == ("b", "TANUKI_API_KEY")
    assert find_api_key("http://host:2/v1", environ={"TANUKI_API_KEY": "b"}, key_file=None) is None
    assert find("unknown") is None
    assert find_api_key("lab", environ={}, key_file=key_file.with_name("missing")) is None
    assert environment_variable("gpu-1.lab") == "TANUKI_API_KEY_GPU_1_LAB"
    assert find("研究室", TANUKI_API_KEY="b", TANUKI_API_KEY_="c") is None


def test_a_key_from_the_keyring(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "keyring"
    package.mkdir(parents=True)
    (package / "errors.py").write_text("class KeyringError(Exception): pass\n", encoding="utf-8")
    (package / "__init__.py").write_text(
        "from keyring.errors import KeyringError\n"
        "def get_password(service, user):\n"
        "    if user == 'locked':\n"
        "        raise KeyringError\n"
        "    if user == 'incomplete':\n"
        "        raise RuntimeError('pycryptodome/x required')\n"
        "    if user == 'misnamed':\n"
        "        import no_such_backend\n"
        "    return {('tanuki', 'lab'): 'from-keyring'}.get((service, user))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in ("keyring", "keyring.errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = find_api_key("lab", environ={}, key_file=key_file)
    assert found == ApiKey("from-keyring", "the keyring")
    for unusable in ("locked", "incomplete", "misnamed"):
        assert find_api_key(unusable, environ={}, key_file=key_file) is None
    for name in ("keyring", "keyring.errors"):
        sys.modules.pop(name)


def test_a_key_file_that_others_can_read(key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(SettingsError) as caught:
        find_api_key("lab", environ={}, key_file=key_file)
    assert caught.value.hint == f"chmod 600 {key_file}"


@pytest.mark.parametrize(
    "content",
    [f'lab = "{SECRET}', f"lab = {SECRET}", f'lab = ["{SECRET}"]', f'lab = "{SECRET}\\u3042"', "\xff\xfe"],
)
def test_a_broken_key_file_is_named_without_the_key(content: str, key_file: Path) -> None:
    key_file.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        find_api_key("lab", environ={}, key_file=key_file)
    shown = "".join(traceback.format_exception(caught.value))
    assert "keys.toml" in shown
    assert SECRET not in shown


def test_the_key_is_sent_and_shown_nowhere(caplog: pytest.LogCaptureFixture, key_file: Path) -> None:
    caplog.set_level(logging.DEBUG)
    echo = Status(401, f'{{"error": {{"message": "Incorrect API key: {SECRET}"}}}}'.encode())
    with ChatServer(chat_answer("はい"), echo, Status(400, SECRET.encode())) as server:
        model = RemoteModel(name="lab", base_url=server.url)
        engine = RemoteEngine(model, api_key=find_api_key("lab", environ={}, key_file=key_file))
        assert answer(engine) == "はい"
        errors = []
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                answer(engine)
            errors.append(caught.value)
    assert all(headers["authorization"] == f"Bearer {SECRET}" for headers in server.headers_seen)
    assert str(key_file) in errors[0].message
    shown = [repr(KEY), str(KEY), caplog.text, repr(vars(engine)), *engine.notes]
    for error in errors:
        shown += [repr(vars(error)), *traceback.format_exception(error)]
    assert all(SECRET not in text for text in shown)
    assert "127.0.0.1" in caplog.text  # the log was really on


def test_a_key_in_the_clear_is_noted() -> None:
    connections = [
        RemoteConnection(url, api_key=key, timeouts=RemoteTimeouts(), flag=CancelFlag())
        for url, key in (
            ("http://gpu.example/v1", KEY),
            ("http://gpu.example/v1", None),
            ("https://gpu.example/v1", KEY),
            ("http://localhost:8000/v1", KEY),
        )
    ]
    assert [connection.sends_key_in_the_clear for connection in connections] == [True, False, False, False]


def test_a_key_that_is_not_accepted() -> None:
    pages = {"/v1/models": Status(401)}
    with ChatServer(pages=pages) as server:
        assert refusal(server.url).hint == "export TANUKI_API_KEY_LAB=…"
        assert "from the test" in refusal(server.url, api_key=KEY).message


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys\nimport tanuki_cli.cli\nimport tanuki_cli.engines\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('httpx2', 'httpcore2', 'ssl')])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"

"""Everything that may go wrong between a user and the hub: one sentence, a next step, the right exit code."""

import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tanuki_cli.catalog import VARIANT_BY_NAME
from tests.support.hub_driver import Outcome, Puller
from tests.support.hub_server import Fault, Hub, digest_of, running_hub

MODEL = "hf:someone/tanuki"
WEIGHTS = bytes(range(256)) * 400
DIGEST = digest_of(WEIGHTS)
FILES = {"tanuki.gguf": WEIGHTS, "tokenizer.json": b"{}"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.add("someone/tanuki", FILES)
        yield hub


@pytest.fixture
def user(hub: Hub, tmp_path: Path) -> Puller:
    return Puller(tmp_path, hub.url)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of ours on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def assert_told(result: Outcome, *parts: str) -> None:
    """Exit code 5, nothing else on stderr, and a sentence and hint with ``parts``."""
    assert result.exit == 5, result
    assert result.stderr == ""
    assert result.hint
    assert "\n" not in result.message
    text = f"{result.message} {result.hint}"
    assert not [part for part in parts if part not in text], text


def test_no_network(tmp_path: Path, closed_port: int) -> None:
    result = Puller(tmp_path, f"http://127.0.0.1:{closed_port}").pull(MODEL)
    assert_told(result, "cannot be reached", "nothing listens there", f"tanuki pull {MODEL}", "HF_ENDPOINT")


def test_unknown_host(tmp_path: Path) -> None:
    result = Puller(tmp_path, "http://hub.invalid").pull(MODEL)
    assert_told(result, "hub.invalid cannot be reached")


def test_unreachable_content_store_is_named(hub: Hub, user: Puller) -> None:
    hub.content_url = "http://store.invalid"
    assert_told(user.pull(MODEL), "store.invalid cannot be reached")


def test_proxy_that_does_not_answer(user: Puller, closed_port: int) -> None:
    result = user.pull(MODEL, env={"HTTP_PROXY": f"http://me:secret@127.0.0.1:{closed_port}"})
    assert_told(result, f"The proxy 127.0.0.1:{closed_port} does not answer", "NO_PROXY")
    assert "secret" not in str(result)


def test_proxy_that_refuses(hub: Hub, user: Puller, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="^CONNECT ", status=407))
    behind = Puller(tmp_path, "https://hub.invalid")
    result = behind.pull(MODEL, env={"HTTPS_PROXY": hub.url})
    assert_told(result, "The proxy", "refuses", "407", "HTTPS_PROXY")


def test_proxy_setting_that_makes_no_sense(user: Puller) -> None:
    result = user.pull(MODEL, env={"HTTP_PROXY": "gopher://127.0.0.1:70"})
    assert_told(result, "The proxy settings cannot be used", "HTTP_PROXY")


def test_certificate_of_a_stranger(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_hub(tls=context) as hub:
        hub.add("someone/tanuki", FILES)
        user = Puller(tmp_path, hub.url)
        assert_told(user.pull(MODEL), "The secure connection to 127.0.0.1 failed", "SSL_CERT_FILE")
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        hub.content_url = hub.url
        assert user.pull(MODEL, env={"SSL_CERT_FILE": str(bundle)}).exit == 0


def test_expired_certificate(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with running_hub(tls=context) as hub:
        result = Puller(tmp_path, hub.url).pull(MODEL, env={"SSL_CERT_FILE": str(bundle)})
    assert_told(result, "expired", "clock")


@pytest.mark.parametrize(
    ("status", "headers", "parts"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ("is gated", "/someone/tanuki", "HF_TOKEN")),
        (403, {"X-Error-Code": "GatedRepo"}, ("is gated", "/someone/tanuki", "HF_TOKEN")),
        (403, {}, ("may not read someone/tanuki", "HF_TOKEN")),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("token", "HF_TOKEN")),
        (401, {"X-Error-Code": "RepoNotFound"}, ("no repository someone/tanuki", "HF_TOKEN")),
        (404, {}, ("no repository someone/tanuki",)),
        (418, {}, ("418", "HF_ENDPOINT")),
    ],
)
def test_refused_listing(
    hub: Hub, user: Puller, status: int, headers: dict[str, str], parts: tuple[str, ...]
) -> None:
    hub.faults.append(Fault(pattern="api/models", status=status, headers=headers))
    assert_told(user.pull(MODEL), *parts)
    assert len(hub.requests) == 1


def test_gated_file_of_an_open_listing(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="resolve", status=403, headers={"X-Error-Code": "GatedRepo"}))
    assert_told(user.pull(MODEL), "is gated", "HF_TOKEN")


def test_unknown_repository_revision_and_file(hub: Hub, user: Puller) -> None:
    assert_told(user.pull("hf:someone/else"), "no repository someone/else")
    assert_told(user.pull(MODEL, revision="v9"), "no such revision", "--revision main")
    missing = user.pull(f"{MODEL}/tanuky.gguf")
    assert (missing.exit, missing.hint) == (4, f"tanuki pull {MODEL}/tanuki.gguf")
    hub.faults.append(Fault(pattern="resolve/.*gguf", status=404, headers={"X-Error-Code": "EntryNotFound"}))
    assert_told(user.pull(MODEL), "no file tanuki.gguf")


def test_too_many_requests(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="api/models", status=429, headers={"Retry-After": "3600"}))
    assert_told(user.pull(MODEL), "3600 seconds", "HF_TOKEN")
    assert len(hub.requests) == 1


def test_server_errors_are_put_up_with_for_a_while(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="api/models", status=503, times=2))
    hub.faults.append(Fault(pattern="resolve/.*gguf", status=502, times=3))
    result = user.pull(MODEL)
    assert result.exit == 0, result.message
    assert len(result.details) == 5
    hub.requests.clear()
    hub.faults.append(Fault(pattern="api/models", status=500))
    assert_told(user.pull(MODEL, revision="main"), "problem of its own (500)", f"tanuki pull {MODEL}")
    assert len(hub.requests) == 4


def test_connection_that_always_breaks(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="content", cut_after=0))
    assert_told(user.pull(MODEL), "broke", "resumes")
    assert len(hub.ranges(DIGEST)) == 4


def test_answer_that_stops(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="content", hold_after=1000, times=1))
    hub.faults.append(Fault(pattern="content", hold_after=0))
    result = user.pull(MODEL, env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"})
    assert_told(result, "stopped answering", "resumes")
    assert hub.ranges(DIGEST) == [None, *["bytes=1000-"] * 3]


def test_wrong_digest(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="content", corrupt=True, times=1))
    assert_told(user.pull(MODEL), "tanuki.gguf arrived damaged", "removed")
    assert not list(user.cache.root.rglob(f"*{DIGEST}*incomplete"))
    assert user.hub.installed() == []
    result = user.pull(MODEL)
    assert result.exit == 0, result.message
    assert hub.ranges(DIGEST) == [None, None]


def test_disk_too_small_for_the_model(hub: Hub, user: Puller) -> None:
    hub.sizes["tanuki.gguf"] = 10**15
    result = user.pull(MODEL)
    assert_told(result, "needs 1000.0 TB more on the disk", "free", "HF_HOME")
    assert not hub.paths("resolve")


def test_disk_full_in_mid_download(hub: Hub, user: Puller) -> None:
    # /dev/full takes no byte: the system itself says that no space is left.
    partial = user.cache.repository("someone/tanuki") / "blobs" / f"{DIGEST}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    assert_told(user.pull(MODEL), "is full", "HF_HOME")
    partial.unlink()
    assert user.pull(MODEL).exit == 0


def test_cache_that_cannot_be_written(hub: Hub, user: Puller) -> None:
    # A file where a folder must be stops the superuser too.
    user.cache.root.parent.mkdir(parents=True)
    user.cache.root.write_text("not a folder")
    assert_told(user.pull(MODEL), "cannot be written", "HF_HOME")


def test_something_else_than_a_hub(hub: Hub, user: Puller) -> None:
    for body, reason in (
        (b"<html>Sign in</html>", "it is not valid JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
    ):
        hub.faults[:] = [Fault(pattern="", status=200, body=body)]
        assert_told(user.pull(MODEL), f"did not answer as a hub does: {reason}", "Wi-Fi")


def test_sign_in_page_instead_of_the_file(hub: Hub, user: Puller) -> None:
    hub.faults.append(Fault(pattern="content", status=200, body=b"<html>Sign in</html>"))
    assert_told(user.pull(MODEL), "something else than tanuki.gguf")
    assert user.hub.installed() == []


@pytest.mark.parametrize("env", [{"HF_HUB_OFFLINE": "1"}, {}], ids=["HF_HUB_OFFLINE", "--offline"])
def test_offline(hub: Hub, user: Puller, env: dict[str, str]) -> None:
    assert_told(user.pull(MODEL, offline=not env, env=env), "not installed", f"tanuki pull {MODEL}")
    assert hub.requests == []
    assert user.pull(MODEL).exit == 0
    assert user.pull(MODEL, offline=not env, env=env).exit == 0


def test_token_goes_to_the_hub_and_nowhere_else(hub: Hub, user: Puller) -> None:
    assert user.pull(MODEL, env={"HF_TOKEN": "hf_secret"}).exit == 0
    sent = {request.path.split("/")[1]: request.headers.get("authorization") for request in hub.requests}
    assert sent == {"api": "Bearer hf_secret", "someone": "Bearer hf_secret", "content": None}


def test_unwritable_state_is_told(hub: Hub, user: Puller) -> None:
    (user.home / "tanuki").write_text("not a folder")
    result = user.pull("tanuki-8b:q4_k_m")
    assert result.exit in (3, 5)
    assert user.hub.locate(VARIANT_BY_NAME["tanuki-8b:q4_k_m"]) is None

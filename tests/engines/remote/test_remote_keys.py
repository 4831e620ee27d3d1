"""A key goes to the server it was given for, and to no other: the real program against real servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.chat_server import ChatServer, Status, chat_answer
from tests.support.program import Terminal, run

GENERAL, OF_LAB, IN_FILE = "sk-general-1", "sk-of-lab-2", "sk-in-file-3"
KEYS = {"TANUKI_API_KEY": GENERAL, "TANUKI_API_KEY_LAB": OF_LAB}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ChatServer]]:
    """Three servers: ``lab`` and ``home`` of the settings, and one that has no name."""
    with ExitStack() as stack:
        found = [stack.enter_context(ChatServer(*[chat_answer("はい")] * 4)) for _server in range(3)]
        for name, server in zip(("lab", "home"), found, strict=False):
            assert run(tmp_path, "config", "set", f"remotes.{name}", server.url).returncode == 0
        yield found


def sent(server: ChatServer) -> set[str | None]:
    """What came with the requests so far in place of a key; they are forgotten."""
    keys = {headers.get("authorization") for headers in server.headers_seen}
    server.headers_seen.clear()
    return keys


def bearer(key: str) -> set[str | None]:
    return {f"Bearer {key}"}


NOTHING: set[str | None] = {None}


def test_each_server_gets_its_own_key_or_none(tmp_path: Path, servers: list[ChatServer]) -> None:
    lab, other, unnamed = servers

    def ask(*arguments: str, **env: str) -> None:
        done = run(tmp_path, "ask", *arguments, "はい?", env={**KEYS, **env})
        assert (done.returncode, done.stdout) == (0, "はい\n"), done.stderr

    ask("-m", "lab")
    assert (sent(lab), sent(other), sent(unnamed)) == (bearer(OF_LAB), set(), set())
    ask("-m", "home")
    assert (sent(lab), sent(other)) == (set(), NOTHING)
    ask("-m", unnamed.url)
    assert sent(unnamed) == bearer(GENERAL)
    # The same address, but from where it was not typed in this run: an older conversation, a setting.
    ask("--continue")
    assert sent(unnamed) == NOTHING
    ask(TANUKI_MODEL=unnamed.url)
    assert sent(unnamed) == NOTHING
    key_file = tmp_path / "config" / "keys.toml"
    key_file.write_text(f'"home" = "{IN_FILE}"\n', encoding="utf-8")
    key_file.chmod(0o600)
    run(tmp_path, "doctor", "--json", env=KEYS)
    assert (sent(lab), sent(other), sent(unnamed)) == (bearer(OF_LAB), bearer(IN_FILE), set())


def test_no_key_follows_a_redirect(tmp_path: Path, servers: list[ChatServer]) -> None:
    lab, _other, elsewhere = servers
    for code in (301, 302, 303, 307, 308):
        for path in ("/v1/models", "/v1/chat/completions"):
            pages = {path: Status(code, headers={"Location": elsewhere.url.removesuffix("/v1") + path})}
            lab.add_pages(pages)
        done = run(tmp_path, "ask", "-m", lab.url, "はい?", env=KEYS)
        assert done.returncode == 7
    assert sent(lab) == bearer(GENERAL)
    assert sent(elsewhere) == set()


def test_a_key_follows_the_model_that_is_typed_in_a_chat(tmp_path: Path, servers: list[ChatServer]) -> None:
    lab, other, unnamed = servers
    arguments = ["chat", "-m", "home", "--no-save"]
    with Terminal(tmp_path, arguments, env={**KEYS, "TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send(f"/model {unnamed.url}")
        terminal.send("/model lab")
        terminal.send("/model home")
        terminal.type("/exit\r")
        assert terminal.wait_for_exit() == 0
    assert (sent(lab), sent(other), sent(unnamed)) == (bearer(OF_LAB), NOTHING, bearer(GENERAL))

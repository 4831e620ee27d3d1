"""``tanuki chat`` inside tmux: resize, scrollback, copy mode. Collected only where tmux is installed."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import until
from tests.support.chat_server import ChatServer, chat_answer
from tests.support.program import COMMAND, environment

ITEMS = [f"第{number:03}項 たぬきの話" for number in range(100)]
PARAGRAPH = "".join(f"語{number:03}、" for number in range(40))


class Tmux:
    """A tmux server of its own with one window that runs ``tanuki chat``."""

    def __init__(self, home: Path, url: str) -> None:
        self._socket = home / "tmux"
        self._env = environment(home, TERM="tmux-256color")
        command = shlex.join([*COMMAND, "chat", "-m", url, "--lang", "en"])
        self("-f", "/dev/null", "-u", "new-session", "-d", "-x", "80", "-y", "24", command)

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, check=True, timeout=30)
        return done.stdout.decode("utf-8")

    @property
    def window(self) -> str:
        return self("capture-pane", "-p")

    @property
    def text(self) -> str:
        """Scrollback and window; rows that the terminal wrapped are joined."""
        return self("capture-pane", "-p", "-J", "-S", "-")

    def send(self, text: str) -> None:
        self("send-keys", "-l", text)
        until(lambda: text in self.window)
        self("send-keys", "Enter")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    answer = "\n".join(f"- {item}" for item in ITEMS) + f"\n\n{PARAGRAPH}\n"
    with ChatServer(chat_answer(answer), chat_answer("二つ目の答え")) as server:
        tmux = Tmux(tmp_path, server.url)
        try:
            until(lambda: "\n>" in tmux.window)
            tmux.send("狸の話")
            until(lambda: "語039" in tmux.text and tmux.window.rstrip().endswith("狸の話"))
            yield tmux
        finally:
            tmux("kill-server")


def items(text: str) -> list[str]:
    return re.findall(r"第\d{3}項 たぬきの話", text)


def test_the_scrollback_has_the_answer_once(tmux: Tmux) -> None:
    assert items(tmux.text) == ITEMS
    assert tmux.text.replace("\n", "").count(PARAGRAPH) == 1


def test_resize(tmux: Tmux) -> None:
    for columns, lines in (("40", "15"), ("100", "30")):
        tmux("resize-window", "-x", columns, "-y", lines)
        until(lambda: re.search(r"^>", tmux.window, re.MULTILINE))
    tmux.send("続き")
    until(lambda: "二つ目の答え" in tmux.text)
    assert items(tmux.text) == ITEMS
    assert tmux.text.replace("\n", "").count(PARAGRAPH) == 1


def test_copy_mode_copies_an_answer_and_typing_goes_on(tmux: Tmux) -> None:
    tmux("copy-mode")
    tmux("send-keys", "-X", "search-backward", "第003項")
    tmux("send-keys", "-X", "select-line")
    tmux("send-keys", "-X", "cursor-down")
    tmux("send-keys", "-X", "copy-selection-and-cancel")
    assert tmux("show-buffer").splitlines()[:2] == [f"• {item}" for item in ITEMS[3:5]]
    tmux.send("続き")
    until(lambda: "二つ目の答え" in tmux.text)

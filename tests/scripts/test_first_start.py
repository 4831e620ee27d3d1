"""What the first start does so that nobody waits for a compiler longer than needed."""

import os
import pty
import select
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.engines.llama_cpp.building import ready_made, ways
from tests.support.checkout import Checkout, links_to, make_checkout

pytestmark = pytest.mark.slow

TIMEOUT_S = 100


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make_checkout(tmp_path)


# --- llama.cpp that was built elsewhere -----------------------------------------------------------------

fits_here = pytest.mark.skipif(
    not ready_made.index_for(ways.builds({}, None), {}), reason="for x86-64 with AVX2, on Linux with glibc"
)


def offer_ready_made(checkout: Checkout) -> dict[str, str | None]:
    """Put a wheel on an index of its own; what a start needs to find it."""
    built = checkout.start()
    assert built.returncode == 0, built.stderr
    [wheel] = (checkout.wheels / "cache").rglob("*.whl")
    folder = checkout.wheels / "index" / "llama-cpp-python"
    folder.mkdir(parents=True)
    name = wheel.name.replace("none-any", "none-manylinux2014_x86_64")
    shutil.move(wheel, folder / name)
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')
    shutil.rmtree(checkout.wheels / "cache")
    shutil.rmtree(checkout.root / ".venv")
    (checkout.wheels / "built").unlink()
    return {
        "PIP_NO_INDEX": None,
        "PIP_INDEX_URL": (checkout.wheels / "index").as_uri(),
        "TANUKI_LLAMA_CPP_INDEX": (checkout.wheels / "index").as_uri(),
    }


@fits_here
def test_one_that_was_built_elsewhere_needs_no_compiler_and_is_kept(
    checkout: Checkout, tmp_path: Path
) -> None:
    changes = offer_ready_made(checkout)
    (tmp_path / "bin").mkdir()
    changes["PATH"] = links_to(tmp_path / "bin", "sh", "dirname")
    result = checkout.start(changes=changes)
    assert (result.returncode, checkout.llama_builds) == (0, []), result.stderr
    assert "a llama.cpp was found that is built already" in result.stderr
    assert "Testing llama.cpp" in result.stderr

    shutil.rmtree(checkout.root / ".venv")
    shutil.rmtree(checkout.wheels / "index")
    result = checkout.start(changes=changes)
    assert (result.returncode, checkout.llama_builds) == (0, []), result.stderr


@fits_here
def test_one_that_answers_wrongly_here_is_not_used(checkout: Checkout) -> None:
    changes = offer_ready_made(checkout)
    (checkout.root / "wrong").touch()
    result = checkout.start(changes=changes)
    assert (result.returncode, len(checkout.llama_builds)) == (0, 1), result.stderr
    assert "It does not work on this machine" in result.stderr
    assert not list((checkout.wheels / "cache").rglob("*manylinux*"))


@fits_here
def test_where_there_is_none_it_is_built(checkout: Checkout) -> None:
    index = (checkout.wheels / "index").as_uri()
    changes = {"PIP_NO_INDEX": None, "PIP_INDEX_URL": index, "TANUKI_LLAMA_CPP_INDEX": index}
    result = checkout.start(changes=changes)
    assert (result.returncode, len(checkout.llama_builds)) == (0, 1), result.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"TANUKI_LLAMA_CPP_INDEX": ""},
        {"PIP_NO_INDEX": "1"},
        {"PIP_INDEX_URL": "https://packages.example/simple"},
        {"CMAKE_ARGS": "-DGGML_VULKAN=on"},
        {"CFLAGS": "-O2"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_who_says_how_or_from_where_gets_no_other(variables: dict[str, str]) -> None:
    assert ready_made.index_for(ways.builds(variables, None), variables) == ""


@pytest.mark.parametrize(
    ("flags", "fits"),
    [("fma avx f16c avx2 bmi2", True), ("avx fma f16c bmi2", False), ("asimd", False)],
)
def test_only_for_a_processor_that_it_was_compiled_for(
    monkeypatch: pytest.MonkeyPatch, flags: str, fits: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ready_made, "processor", lambda: f"flags\t\t: {flags}")
    assert bool(ready_made.index_for(ways.builds({}, None), {})) is fits
    assert ready_made.index_for(ways.builds({}, "/usr/bin/nvcc"), {}) == ""


# --- the question while it compiles ---------------------------------------------------------------------


class Chat:
    """``scripts/tanuki chat`` on a pseudo-terminal, while the compiler is held."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        (checkout.wheels / "wait").touch()
        self.shown = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            script = str(checkout.root / "scripts" / "tanuki")
            os.execve(script, [script, "chat"], {**checkout.environ(), "TERM": "xterm"})

    def read_until(self, text: str) -> None:
        while text not in self.shown:
            assert select.select([self.terminal], [], [], TIMEOUT_S)[0], self.shown
            self.shown += os.read(self.terminal, 4096).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def compile(self) -> None:
        """Let the compiler finish."""
        (self.checkout.wheels / "wait").unlink()

    def wait(self) -> int:
        try:
            while data := os.read(self.terminal, 4096):
                self.shown += data.decode("utf-8", "replace")
        except OSError:  # the other end is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def has(self, name: str) -> bool:
        """Whether the program has written the file ``name``."""
        return (self.checkout.root / name).exists()


@pytest.fixture
def chat(checkout: Checkout) -> Iterator[Chat]:
    chat = Chat(checkout)
    yield chat
    (checkout.wheels / "wait").unlink(missing_ok=True)
    (checkout.root / "slow").unlink(missing_ok=True)
    os.close(chat.terminal)


def test_the_model_is_chosen_and_downloaded_while_it_compiles(chat: Chat) -> None:
    (chat.checkout.root / "slow").touch()
    chat.read_until("Which? ")
    chat.type("first\n")
    chat.read_until("llama.cpp: 1 of 4  download: 25 %, about 2 min left")
    assert not chat.has(".venv/complete")
    chat.compile()
    chat.read_until("Downloading the model")
    assert chat.has(".venv/complete")  # another start need not wait for the download
    assert not chat.has("pulled")
    (chat.checkout.root / "slow").unlink()
    chat.type("\x04")
    assert chat.wait() == 0
    assert chat.has("pulled")
    assert "chosen: first" in chat.shown
    assert chat.shown.count("Which?") == 1


def test_a_download_that_the_practice_model_bridges_does_not_hold_the_chat_up(chat: Chat) -> None:
    (chat.checkout.root / "slow").touch()
    chat.read_until("Which? ")
    chat.type("meanwhile\n")
    chat.read_until("download: 25 %")
    chat.compile()
    chat.read_until("Done in")
    chat.type("\x04")
    assert chat.wait() == 0
    assert "chosen: meanwhile" in chat.shown
    assert not chat.has("pulled")


def test_who_leaves_at_the_question_leaves_nothing_running(chat: Chat) -> None:
    chat.read_until("Which? ")
    chat.type("none\n")
    assert chat.wait() == 0
    assert chat.shown.rstrip().endswith("Stopped. The next start begins again, with what is built already.")
    assert not chat.has(".venv/complete")


@pytest.mark.parametrize("at", ["Which? ", "download: 25 %"])
def test_ctrl_c_ends_question_download_and_compiler(chat: Chat, at: str) -> None:
    (chat.checkout.root / "slow").touch()
    chat.read_until("Which? ")
    if at != "Which? ":
        chat.type("first\n")
        chat.read_until(at)
    chat.type("\x03")
    assert chat.wait() == 130
    assert "Stopped. The next start begins again" in chat.shown
    assert not chat.has("pulled")
    chat.compile()
    again = chat.checkout.start("ask")
    assert again.returncode == 0, again.stderr

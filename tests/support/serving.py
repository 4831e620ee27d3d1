"""``tanuki serve`` as its users run it: the real program, on a free port of loopback."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2

from tests.support.program import COMMAND, environment

QUESTION = "あなたは誰?"
ENDLESS = {
    "messages": [{"role": "user", "content": "長い話をして"}],
    "guided_regex": "[あ-ん]{3000}",
    "max_tokens": 3000,
}
"""An answer that goes on for long, whatever the practice model has to say."""


@dataclass(frozen=True)
class Serving:
    """A running server: its process, its ready line and its address, without ``/v1``. Its stderr is a file:
    nobody has to read it, however much it is."""

    process: "subprocess.Popen[str]"
    ready: str
    address: str
    stderr: IO[bytes]

    @property
    def said(self) -> str:
        """What it has written to stderr so far."""
        return _content(self.stderr)

    def post(self, path: str, body: object, **headers: str) -> httpx2.Response:
        """Ask, with a JSON body or with bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx2.post(self.address + path, content=content, headers=headers, timeout=120)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """Ask for ``path``."""
        return httpx2.get(self.address + path, headers=headers, timeout=60)

    def chat(self, content: str = QUESTION, **fields: object) -> dict[str, Any]:
        """A whole answer, greedy unless ``fields`` say otherwise."""
        messages = [{"role": "user", "content": content}]
        answer = self.post("/v1/chat/completions", {"messages": messages, "temperature": 0, **fields})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str) -> float:
        """One figure of /metrics."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"tanuki_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def connect(self) -> socket.socket:
        """A bare connection."""
        host, port = self.address.removeprefix("http://").rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=60)


@contextmanager
def serving(
    home: Path, *arguments: str, env: Mapping[str, str] | None = None, model: str = "mame"
) -> Iterator[Serving]:
    """Serve ``model`` until the block ends."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [*COMMAND, "serve", "-m", model, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment(home, **(env or {})),
            text=True,
            encoding="utf-8",
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("http://"), _content(stderr)
            yield Serving(process, ready, ready.split()[0].removesuffix("/v1"), stderr)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _content(file: IO[bytes]) -> str:
    """All of a file that another process is writing, whose place in it stays."""
    descriptor = file.fileno()
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", errors="replace")


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream, which must end with [DONE]."""
    found = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert found[-1] == "[DONE]"
    return [json.loads(line) for line in found[:-1]]

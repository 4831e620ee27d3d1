"""The real program, as its users run it: in a pipe, or on a pseudo-terminal with a screen."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from tests.support.screen import Screen

COMMAND: Final = (sys.executable, "-m", "tanuki_cli")
ROOT: Final = Path(__file__).parent.parent.parent
_PROMPT: Final = re.compile(rb"\x1b\[\?2004h(?:\x1b\[\?1l)?\x1b\[\?25l\x1b\[0")
"""How a prompt opens: it turns the marks of pastes on, which an answer does too, and begins to draw."""
_KEEP: Final = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A clean environment whose tanuki and hub directories are below ``home``."""
    kept = {name: os.environ[name] for name in _KEEP if name in os.environ}
    return {
        **kept,
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PAGER": "cat",
        "PYTHONUTF8": "1",
        "TANUKI_HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "TERM": "xterm-256color",
        **extra,
    }


def run(
    home: Path,
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 240,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``tanuki arguments`` to its end with ``stdin`` piped in, in the folder ``cwd``."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(home, **(env or {})),
        timeout=timeout_s,
        check=False,
        cwd=cwd,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    )


class Terminal:
    """``tanuki arguments`` on a pseudo-terminal; what it prints is shown on :attr:`screen`.

    ``before_report`` is typed right before the first answer to a question about the cursor.
    """

    def __init__(
        self,
        home: Path,
        arguments: Sequence[str],
        *,
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        before_report: str = "",
    ) -> None:
        self.screen = Screen(columns, lines)
        self._before_report = before_report
        self.raw = b""
        # A read may end in the middle of a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        master, slave = pty.openpty()
        self._master = master
        self._name = os.ttyname(slave)
        self._set_size(columns, lines)
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(home, **(env or {})),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """Scrollback and window as one text."""
        return "\n".join(self.screen.display)

    def type(self, text: str) -> None:
        """Type ``text``; control characters are keys (``\\r`` is Enter, ``\\x03`` Ctrl-C)."""
        os.write(self._master, text.encode("utf-8"))

    @property
    def foreground(self) -> int:
        """The process group that the keys go to."""
        return os.tcgetpgrp(self._master)

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def paste(self, text: str) -> None:
        """Paste ``text`` as a terminal does that was asked to bracket it."""
        data = f"\x1b[200~{text}\x1b[201~".encode()
        while data:
            _readable, writable, _errors = select.select([], [self._master], [], 0.05)
            if writable:
                data = data[os.write(self._master, data[:1024]) :]
            self.pump()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def resize(self, columns: int, lines: int, *, reflow: bool = False) -> None:
        """Change the window's size; the program is told as a terminal tells it."""
        self._set_size(columns, lines)
        self.screen.resize(columns, lines, reflow=reflow)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def pump(self, wait_s: float = 0.0) -> bool:
        """Take what the program printed, and answer its questions about the cursor."""
        readable, _writable, _errors = select.select([self._master], [], [], wait_s)
        if not readable:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        if not data:
            return False
        self.raw += data
        for index, piece in enumerate(data.split(b"\x1b[6n")):
            if index:
                cursor = self.screen.raw.cursor
                self.type(f"{self._before_report}\x1b[{cursor.y + 1};{cursor.x + 1}R")
                self._before_report = ""
            self.screen.feed(self._decoder.decode(piece))
        return True

    @property
    def prompts(self) -> int:
        """How many prompts were opened so far."""
        return len(_PROMPT.findall(self.raw))

    def send(self, line: str, *, timeout_s: float = 120) -> None:
        """Type ``line`` and Enter, and wait until the next prompt is open."""
        before = self.prompts
        self.type(line + "\r")
        self.wait_for_prompt(before, timeout_s=timeout_s)

    def wait_for_prompt(self, before: int, *, timeout_s: float = 120) -> None:
        """Until more than ``before`` prompts were opened and the last one is drawn."""
        deadline = time.monotonic() + timeout_s
        while self.prompts <= before or not self._prompt_is_drawn():
            assert time.monotonic() < deadline, f"the prompt never came back; the screen is\n{self.text}"
            assert self.pump(0.05) or self.process.poll() is None, f"it ended; the screen is\n{self.text}"

    def _prompt_is_drawn(self) -> bool:
        *_, opened = _PROMPT.finditer(self.raw)
        return b">" in self.raw[opened.start() :]

    def settle(self, quiet_s: float = 0.2, *, timeout_s: float = 120) -> None:
        """Until the program took all that was typed and waits for more, with nothing printed for ``quiet_s``.

        Silence alone does not say so: on a busy machine the program may not have had its turn.
        """
        deadline = time.monotonic() + timeout_s
        while self.pump(quiet_s) or not self._waits():
            assert time.monotonic() < deadline, f"it never came to rest; the screen is\n{self.text}"

    def _waits(self) -> bool:
        try:
            side = os.open(self._name, os.O_RDWR | os.O_NOCTTY)
        except OSError:  # it ended
            return True
        try:
            (untaken,) = struct.unpack("i", fcntl.ioctl(side, termios.FIONREAD, bytes(4)))
        finally:
            os.close(side)
        try:
            return not untaken and psutil.Process(self.foreground).status() == psutil.STATUS_SLEEPING
        except psutil.NoSuchProcess:
            return True

    def wait_for(self, text: str, *, timeout_s: float = 120) -> None:
        """Until ``text`` is on the screen or in the scrollback."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} never came; the screen is\n{self.text}"
            alive = self.process.poll() is None
            if not self.pump(0.05) and not alive:
                assert text in self.text, f"{text!r} never came before the end; the screen is\n{self.text}"

    def wait_for_exit(self, *, timeout_s: float = 120) -> int:
        """Until the program ends; returns its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it never ended; the screen is\n{self.text}"
            self.pump(0.05)
        while self.pump(0.05):
            pass
        return self.process.returncode

"""The keeper of a model: found where it runs, started where it does not, replaced where it is another's."""

import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli import __version__
from tanuki_cli.catalog import LocalModel
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _, active_language
from tanuki_cli.server.warm.engine import read_status
from tanuki_cli.server.warm.place import Place
from tanuki_cli.server.warm.wire import Json, error_of
from tanuki_cli.settings.specs import SPECS, Settings, value_of

_ENDS_S: Final = 20.0
_PASSED_ON: Final = ("CUDA_", "HIP_", "ROCR_", "GGML_", "LLAMA_", "OMP_")
_LOADING: Final = frozenset(("loading", "memory", "file"))
_NOT_LOADING: Final = frozenset(("keep_alive", "theme", "lang"))
_READ: Final = frozenset((".safetensors", ".bin", ".json", ".model", ".txt", ".py"))
"""The files of a checkpoint that are read; others come and go beside them."""


class Wish(Struct, frozen=True, kw_only=True):
    """The keeper that is wanted: of ``reference``, which stands for ``target``, loaded with ``settings``.

    ``command`` starts one.
    """

    place: Place
    reference: str
    target: LocalModel
    settings: Settings
    environ: Mapping[str, str]
    keep_s: float
    command: Sequence[str]

    @property
    def key(self) -> str:
        """The same for two wishes that one keeper fulfils, whatever they call the model."""
        parts = [
            __version__,
            repr(_as_it_is(self.target)),
            _state(self.target.path),
            [(spec.key, value_of(self.settings, spec)) for spec in SPECS if _matters(spec.scope, spec.key)],
            sorted(item for item in self.environ.items() if item[0].startswith(_PASSED_ON)),
        ]
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


class Busy(Exception):
    """The keeper has another model, which is in use."""


def ask(place: Place, request: Json) -> Json | None:
    """What the keeper says to ``request``; None where there is none."""
    try:
        connection = place.connect()
    except OSError:
        return None
    with connection:
        try:
            return read_status(connection, request)
        except (OSError, ValueError):
            return None


def hold(wish: Wish) -> tuple[socket.socket, Json]:
    """A connection that holds the keeper of ``wish``, and its status; it is started where need be.

    Raises Busy, and what loading the model raises.
    """
    key = wish.key
    if (found := _held(wish, key)) is not None:
        return found
    with wish.place.locked():
        if (found := _held(wish, key)) is not None:
            return found
        if not stop(wish.place, only_idle=True):
            raise Busy
        _start(wish, key)
        found = _held(wish, key)
    if found is None:
        raise EngineError(_("The model in the background ended at once."), hint="tanuki doctor")
    return found


def stop(place: Place, *, only_idle: bool = False) -> bool:
    """End the keeper and wait for that; whether none is left."""
    status = ask(place, {"op": "stop", "only_idle": only_idle})
    if status is None:
        return True
    if not status["stopping"]:
        return False
    deadline = time.monotonic() + _ENDS_S
    while _is_alive(int(status["pid"])) and time.monotonic() < deadline:
        time.sleep(0.02)
    return True


def _held(wish: Wish, key: str) -> tuple[socket.socket, Json] | None:
    """A connection to the keeper that is there, if it is the right one."""
    try:
        connection = wish.place.connect()
    except OSError:
        return None
    with suppress(OSError, ValueError):
        status = read_status(connection, {"op": "hold", "key": key, "keep_s": wish.keep_s})
        if status["key"] == key and not status["stopping"]:
            return connection, status
    connection.close()
    return None


def _start(wish: Wish, key: str) -> None:
    """Start a keeper and wait until it has loaded. What stops the waiting stops it too."""
    process = subprocess.Popen(
        wish.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Windows: no window, and no Ctrl-C of the terminal's.
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
        | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        env=dict(wish.environ),
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    values = {spec.key: value_of(wish.settings, spec) for spec in SPECS}
    asked = {
        "reference": wish.reference,
        "settings": {name: value for name, value in values.items() if value is not None},
        "key": key,
        "keep_s": wish.keep_s,
        "folder": str(wish.place.folder),
        "name": wish.place.name,
        "loopback": wish.place.loopback,
        "lang": active_language(),
    }
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.close()
        line = process.stdout.readline()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise
    finally:
        process.stdout.close()
    if not line:
        raise EngineError(_("The model in the background ended at once."), hint="tanuki doctor")
    answer = json.loads(line)
    if "error" in answer:
        process.wait()
        raise error_of(answer["error"])
    process.returncode = 0  # it lives on: nobody is to wait for it, nor to complain that nobody did


def _as_it_is(target: LocalModel) -> LocalModel:
    """``target`` by its files alone: two may be called the same in two folders, and one by two names."""
    return replace(
        target,
        name="",
        path=target.path.resolve(),
        tokenizer=None if target.tokenizer is None else target.tokenizer.resolve(),
        reference_tokenizer=(
            None if target.reference_tokenizer is None else target.reference_tokenizer.resolve()
        ),
    )


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files that are the model."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READ)
    found = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _matters(scope: str, key: str) -> bool:
    return scope in _LOADING and key not in _NOT_LOADING


def _is_alive(pid: int) -> bool:
    if os.name == "posix":
        with suppress(ChildProcessError):  # our own child would stay a zombie
            os.waitpid(pid, os.WNOHANG)
    return psutil.pid_exists(pid)

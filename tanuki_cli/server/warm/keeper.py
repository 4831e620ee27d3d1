"""The background process: keeps one model loaded, and answers one request after the other.

A request is one connection, answered by lines. A byte or the end from the other side
while it is answered cancels it. A connection that only ``holds`` keeps the model from being idle.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from tanuki_cli.conversation import Usage
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.engines.base import Engine, GenerationCancelled
from tanuki_cli.errors import EngineError, TanukiError
from tanuki_cli.i18n import activate
from tanuki_cli.loading import LoadedModel, Unattended, load_model
from tanuki_cli.server.warm.place import Place, admit
from tanuki_cli.server.warm.wire import (
    chunk_json,
    encode,
    error_json,
    form_of,
    messages_of,
    options_of,
    plan_json,
    read_request,
    score_json,
)
from tanuki_cli.settings.values import Directories, Settings, with_values

_LOOK_S: Final = 0.2
_NOT_RUN: Final = Chunk(
    finish_reason="interrupted", usage=Usage(prompt_tokens=0, completion_tokens=0), token_count=0
)


class Keeper:
    """Serves ``loaded`` on ``listener`` until it is idle for ``keep_s``, or is stopped."""

    def __init__(
        self,
        loaded: LoadedModel,
        listener: socket.socket,
        *,
        secret: bytes,
        key: str,
        keep_s: float,
        is_found: Callable[[], bool],
    ) -> None:
        """Clients know ``secret``, if there is one. ``is_found`` tells whether new ones still reach
        ``listener``."""
        self._loaded = loaded
        self._listener = listener
        self._secret = secret
        self._is_found = is_found
        self._key = key
        self._keep_s = keep_s
        self._since = time.time()
        self._used_at = time.monotonic()
        self._requests = 0
        self._held = 0
        self._running = 0
        self._stopping = False
        self._current: threading.Event | None = None  # whose request the engine works on
        self._lock = threading.Lock()  # the counts
        self._engine_lock = threading.Lock()

    def run(self) -> None:
        """Answer until the end."""
        self._listener.settimeout(_LOOK_S)
        while not self._stopping and not self._is_idle():
            try:
                connection, _address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # too many files are open: some will be closed
                time.sleep(_LOOK_S)
                continue
            connection.settimeout(None)
            try:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except RuntimeError:  # no more threads
                connection.close()

    def stop(self) -> None:
        """End soon, whatever runs. For a signal handler too."""
        self._stopping = True
        self._loaded.engine.cancel()

    def finish(self) -> None:
        """Wait for what is being answered, and free the model."""
        self._stopping = True
        with self._engine_lock:
            self._loaded.close()

    def _is_idle(self) -> bool:
        with self._lock:
            if self._busy:
                return False
            # A socket that was removed, or replaced, is one that nobody comes through any more.
            return time.monotonic() - self._used_at > self._keep_s or not self._is_found()

    @property
    def _busy(self) -> bool:
        return bool(self._held or self._running)

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            admit(connection, self._secret)
            try:
                request = read_request(connection)
            except ValueError:  # none, or half of one
                return
            if request.get("lang") in ("ja", "en"):
                activate(request["lang"])
            if request["op"] == "hold":
                self._hold(connection, request)
            elif request["op"] == "status":
                connection.sendall(encode(self._status()))
            elif request["op"] == "stop":
                self._asked_to_stop(connection, only_idle=bool(request.get("only_idle")))
            else:
                self._answer(connection, request)

    def _hold(self, connection: socket.socket, request: dict[str, Any]) -> None:
        with self._lock:
            if request["key"] == self._key and not self._stopping:
                self._keep_s = float(request["keep_s"])
            self._held += 1
        try:
            connection.sendall(encode(self._status()))
            while connection.recv(1):
                pass
        finally:
            with self._lock:
                self._held -= 1
                self._used_at = time.monotonic()

    def _asked_to_stop(self, connection: socket.socket, *, only_idle: bool) -> None:
        with self._lock:
            stops = self._stopping or not (only_idle and self._busy)
            if stops:
                self._stopping = True
        if stops:
            self._loaded.engine.cancel()
        connection.sendall(encode({**self._status(), "stopping": stops}))

    def _status(self) -> dict[str, Any]:
        engine = self._loaded.engine
        idle = 0.0 if self._busy else time.monotonic() - self._used_at
        return {
            "key": self._key,
            "pid": os.getpid(),
            "reference": self._loaded.reference,
            "model": engine.info.model,
            "engine": engine.info.engine,
            "device": engine.info.device,
            "context_length": engine.context_length,
            "notes": list(engine.notes),
            "since": self._since,
            "memory_bytes": psutil.Process().memory_info().rss,
            "requests": self._requests,
            "running": self._running,
            "stopping": self._stopping,
            "ends_in_s": None if self._busy else max(0.0, self._keep_s - idle),
        }

    def _answer(self, connection: socket.socket, request: dict[str, Any]) -> None:
        gone = threading.Event()
        with self._lock:
            self._requests += 1
            self._running += 1
        watcher = threading.Thread(target=self._watch, args=(connection, gone), daemon=True)
        watcher.start()
        try:
            while not self._engine_lock.acquire(timeout=_LOOK_S):
                if gone.is_set() or self._stopping:
                    connection.sendall(encode({"chunk": chunk_json(_NOT_RUN)}))
                    return
            try:
                self._reply(connection, request, gone)
            finally:
                self._engine_lock.release()
        finally:
            with self._lock:
                self._running -= 1
                self._used_at = time.monotonic()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # ends the watcher

    def _watch(self, connection: socket.socket, gone: threading.Event) -> None:
        with suppress(OSError):
            connection.recv(1)
        gone.set()
        with self._lock:  # what runs may be another one's request by now
            if self._current is gone:
                self._loaded.engine.cancel()

    def _reply(self, connection: socket.socket, request: dict[str, Any], gone: threading.Event) -> None:
        with self._lock:
            self._current = gone
        try:
            with closing(self._lines(self._loaded.engine, request)) as lines:
                for line in lines:
                    connection.sendall(encode(line))
                    if gone.is_set():  # it may have left before the engine began
                        self._loaded.engine.cancel()
        except TanukiError as error:
            connection.sendall(encode({"error": error_json(error)}))
        except GenerationCancelled:
            connection.sendall(encode({"cancelled": True}))
        except (MemoryError, RuntimeError) as exc:  # of a library
            connection.sendall(encode({"error": error_json(EngineError(str(exc)))}))
        finally:
            with self._lock:
                self._current = None

    def _lines(self, engine: Engine, request: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        operation = request["op"]
        messages = messages_of(request.get("messages", []))
        if operation == "plan":
            yield {"plan": plan_json(engine.plan(messages, options_of(request["options"])))}
        elif operation == "score":
            scores = engine.score(messages, request["answers"], alternatives=request["alternatives"])
            yield {"scores": [score_json(score) for score in scores]}
        else:
            options, form = options_of(request["options"]), form_of(request["form"])
            if operation == "stream":
                chunks = engine.stream(messages, options, form)
            else:
                chunks = engine.complete(request["prompt_ids"], options, form)
            with closing(chunks):
                for chunk in chunks:
                    yield {"chunk": chunk_json(chunk)}


def main() -> None:
    """Load what stdin says, tell stdout how that went, and serve. Runs in a session of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.loads(sys.stdin.readline())
    activate(asked["lang"])
    place = Place(folder=Path(asked["folder"]), name=asked["name"], loopback=asked["loopback"])
    try:
        loaded = load_model(
            asked["reference"],
            with_values(Settings(), asked["settings"]),
            Unattended(),
            use="chat",
            environ=os.environ,
            directories=Directories.from_environment(os.environ),
        )
    except TanukiError as error:
        _tell({"error": error_json(error)})
        return
    except (
        MemoryError,
        RuntimeError,
        OSError,
    ) as exc:  # of a library; the terminal's own load will tell more
        _tell({"error": error_json(EngineError(str(exc)))})
        return
    listener, secret = place.listen()
    with closing(listener):
        own = place.identity
        keeper = Keeper(
            loaded,
            listener,
            secret=secret,
            key=asked["key"],
            keep_s=asked["keep_s"],
            is_found=lambda: place.identity == own,
        )
        signal.signal(signal.SIGTERM, lambda _number, _frame: keeper.stop())
        _tell({"ready": True})
        try:
            keeper.run()
        finally:
            if place.identity == own:  # not that of one that took its place
                place.address.unlink(missing_ok=True)
    keeper.finish()


def _tell(line: dict[str, Any]) -> None:
    """One line for who started this; nobody listens after it."""
    with suppress(OSError):
        sys.stdout.write(encode(line).decode())
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)

"""A server on loopback that speaks like vLLM, llama-server, Ollama or a plain chat API, and can fail.

Each request for an answer takes the next script: a list of bytes to send, and of faults between them.
"""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal

from tanuki_cli.tokenizer import ChatTokenizer

Kind = Literal["vllm", "llama-server", "ollama", "openai"]
DONE = b"data: [DONE]\n\n"


class Cut:
    """Closes the connection at once, in the middle of a chunk."""


class Hang:
    """Sends nothing until the client goes away, which :attr:`ChatServer.disconnected` tells."""


@dataclass(frozen=True)
class Status:
    """Answers with a status instead of a stream."""

    code: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


Script = Status | Sequence[bytes | Cut | Hang]


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, object]


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chat(text: str = "", finish: str | None = None) -> bytes:
    """An event of the chat endpoint."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def chat_usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> bytes:
    """The event that ends a stream with its counts."""
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
    return event({"choices": [], "usage": usage})


def chat_answer(*texts: str) -> list[bytes]:
    """A whole answer of the chat endpoint."""
    return [*map(chat, texts), chat(finish="stop"), DONE]


def vllm(text: str = "", ids: Sequence[int] | None = None, finish: str | None = None) -> bytes:
    """An event of vLLM's completions; ``ids`` None as from versions that do not give them."""
    choice: dict[str, object] = {"index": 0, "text": text, "finish_reason": finish}
    if ids is not None:
        choice["token_ids"] = list(ids)
    return event({"choices": [choice]})


def vllm_answer(ids: Iterable[int], *, finish: str = "length") -> list[bytes]:
    """A whole answer whose texts are wrong on purpose: the ids must be used."""
    return [*(vllm("?", [id_]) for id_ in ids), vllm(finish=finish), DONE]


def llama(text: str, ids: Sequence[int], *, predicted: int) -> bytes:
    """An event of llama-server's /completion."""
    return event(
        {
            "index": 0,
            "content": text,
            "tokens": list(ids),
            "stop": False,
            "tokens_predicted": predicted,
            "tokens_evaluated": 5,
        }
    )


def llama_end(stop_type: str, *, predicted: int, evaluated: int = 5, computed: int = 5) -> bytes:
    """The event that ends an answer of llama-server's /completion."""
    return event(
        {
            "content": "",
            "tokens": [],
            "stop": True,
            "stop_type": stop_type,
            "tokens_predicted": predicted,
            "tokens_evaluated": evaluated,
            "timings": {"prompt_n": computed},
        }
    )


class ChatServer:
    """Runs in the background while the ``with`` block does.

    ``requests`` are those for an answer. ``tokenizer`` is what /detokenize uses, where there is one.
    """

    def __init__(
        self,
        *scripts: Script,
        kind: Kind = "openai",
        tokenizer: ChatTokenizer | None = None,
        models: Sequence[str] = ("tanuki-8b",),
        context_length: int = 4096,
        certificate: Callable[[ssl.SSLContext], None] | None = None,
        pages: dict[str, Status] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.headers_seen: list[dict[str, str]] = []
        self.paths_seen: list[str] = []
        self.waiting = threading.Event()
        self.disconnected = threading.Event()
        self.scripts: list[Script] = list(scripts)
        self.kind = kind
        self._tokenizer = tokenizer
        self._models = models
        self._context_length = context_length
        self._pages = pages or {}
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate(context)
            self._httpd.socket = context.wrap_socket(self._httpd.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def port(self) -> int:
        return int(self._httpd.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()

    def add_pages(self, pages: dict[str, Status]) -> None:
        """Answer small questions for these paths so."""
        self._pages = {**self._pages, **pages}

    def page(self, path: str, body: dict[str, object]) -> Status:
        """What a small question gets."""
        if path in self._pages:
            return self._pages[path]
        owners = {"vllm": "vllm", "llama-server": "llamacpp", "ollama": "library", "openai": "me"}
        models = [
            {
                "id": name,
                "object": "model",
                "owned_by": owners[self.kind],
                "max_model_len": self._context_length,
            }
            for name in self._models
        ]
        pages: dict[str, object] = {"/v1/models": {"object": "list", "data": models}}
        if self.kind == "vllm":
            pages["/version"] = {"version": "0.5.4"}
        if self.kind == "llama-server":
            pages["/props"] = {"default_generation_settings": {"n_ctx": self._context_length}}
        if self.kind == "ollama":
            pages["/api/version"] = {"version": "0.9.0"}
        if self._tokenizer is not None and path == "/detokenize":
            tokens = body["tokens"]
            assert isinstance(tokens, list)
            text = self._tokenizer.decode(tokens)
            pages[path] = {"content": text} if self.kind == "llama-server" else {"prompt": text}
        if path not in pages:
            return Status(404, b'{"error": {"message": "File Not Found", "code": 404}}')
        return Status(200, json.dumps(pages[path]).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            close_connection = True

            def do_GET(self) -> None:
                self.answer({})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self.answer(json.loads(self.rfile.read(length)))

            def answer(self, body: dict[str, object]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.headers_seen.append(headers)
                server.paths_seen.append(self.path)
                if self.command == "POST" and self.path.partition("?")[0].endswith(
                    ("/completions", "/completion")
                ):
                    server.requests.append(Request(self.command, self.path, headers, body))
                    script = server.scripts.pop(0)
                else:
                    script = server.page(self.path.partition("?")[0], body)
                if isinstance(script, Status):
                    self.send_status(script)
                else:
                    self.send_stream(script)
                self.close_connection = True

            def send_status(self, status: Status) -> None:
                self.send_response(status.code)
                for name, value in {"Content-Type": "application/json", **status.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(status.body)))
                self.end_headers()
                self.wfile.write(status.body)

            def send_stream(self, script: Sequence[bytes | Cut | Hang]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for step in script:
                    if isinstance(step, Cut):
                        self.wfile.write(b"ff\r\ndata: ")
                        self.wfile.flush()
                        # A reset, not an orderly end.
                        self.connection.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        self.connection.close()
                        return
                    if isinstance(step, Hang):
                        server.waiting.set()
                        if self.connection.recv(1) == b"":
                            server.disconnected.set()
                        return
                    self.wfile.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

"""A small hub on loopback that the real huggingface_hub client talks to, with faults on order.

It speaks what downloads need: model information with file metadata, the tree listing, and ``resolve``
with ``ETag``, ``X-Repo-Commit`` and ``X-Linked-*``, which redirects large files to a content store on
another origin that understands ``Range``.
"""

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "1" * 40
LARGE = 4096
"""Files from this size on are stored like LFS files: SHA-256 digest, redirect to the content store."""


@dataclass(kw_only=True)
class Fault:
    """Spoils requests whose ``METHOD path`` matches ``pattern``, ``times`` times, then never again; the
    first ``skip`` of them it leaves alone.

    ``status`` answers with an error; ``cut_after`` closes the connection after so many bytes of the
    body; ``corrupt`` sends other bytes of the same length; ``ignore_range`` always sends all;
    ``bytes_per_s`` sends slowly; ``hold_after`` stops after so many bytes until :attr:`release` is set,
    and sets ``holding``.
    """

    pattern: str
    times: int = 1 << 30
    skip: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    corrupt: bool = False
    ignore_range: bool = False
    bytes_per_s: int | None = None
    hold_after: int | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


class Hub:
    """The state of the server: repositories, faults, and every request that was made."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.max_connections = 1 << 30
        """To the content store at once; more get 503."""
        self.most_connections = 0
        self._connections = 0
        self._lock = threading.Lock()
        self.url = ""
        self.content_url = ""

    def add(self, repository: str, files: dict[str, bytes], *, commit: str = COMMIT) -> None:
        """Make ``commit`` of ``repository`` hold ``files``; ``main`` points to it."""
        self.repositories.setdefault(repository, {})[commit] = files
        self.branches.setdefault(repository, {})["main"] = commit

    def paths(self, pattern: str) -> list[str]:
        """``METHOD path`` of the requests that match ``pattern``."""
        lines = [f"{request.method} {request.path}" for request in self.requests]
        return [line for line in lines if re.search(pattern, line)]

    def ranges(self, digest: str) -> list[str | None]:
        """The Range headers with which the content ``digest`` was asked for."""
        return [request.headers.get("range") for request in self.requests if digest in request.path]

    @contextmanager
    def connection(self) -> Iterator[bool]:
        """One more request to the content store; whether it is allowed."""
        with self._lock:
            self._connections += 1
            self.most_connections = max(self.most_connections, self._connections)
            allowed = self._connections <= self.max_connections
        try:
            yield allowed
        finally:
            with self._lock:
                self._connections -= 1

    def take_fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, line):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


@lru_cache(maxsize=64)  # asked for at every request
def digest_of(content: bytes) -> str:
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_CONNECT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, path, headers))
        fault = self.hub.take_fault(f"{self.command} {path}")
        if fault is not None and fault.status is not None:
            self._send(fault.status, fault.body, fault.headers)
        elif match := re.fullmatch(r"/content/([0-9a-f]+)", path):
            with self.hub.connection() as allowed:
                self._content(match[1], fault) if allowed else self._send(503, b"")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            self._listing(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3], fault)
        else:
            self._send(404, b"")

    def _commit(self, repository: str, revision: str) -> str | None:
        if repository not in self.hub.repositories:
            self._error(404, "RepoNotFound", "Repository not found")
            return None
        commit = self.hub.branches[repository].get(revision, revision)
        if commit not in self.hub.repositories[repository]:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _listing(self, repository: str, kind: str, revision: str) -> None:
        commit = self._commit(repository, revision)
        if commit is None:
            return
        entries = [
            (name, content, self.hub.sizes.get(name, len(content)))
            for name, content in self.hub.repositories[repository][commit].items()
        ]
        lfs = {
            name: {"size": size, "pointerSize": 134}
            for name, content, size in entries
            if len(content) >= LARGE
        }
        data: object
        if kind == "revision":
            siblings = [
                {"rfilename": name, "size": size, "blobId": _blob_id(content)}
                | ({"lfs": lfs[name] | {"sha256": digest_of(content)}} if name in lfs else {})
                for name, content, size in entries
            ]
            data = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
        else:
            data = [
                {"type": "file", "path": name, "size": size, "oid": _blob_id(content)}
                | ({"lfs": lfs[name] | {"oid": digest_of(content)}} if name in lfs else {})
                for name, content, size in entries
            ]
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, revision: str, name: str, fault: Fault | None) -> None:
        commit = self._commit(repository, revision)
        if commit is None:
            return
        content = self.hub.repositories[repository][commit].get(name)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        digest = digest_of(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}
        if len(content) >= LARGE:
            headers |= {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{digest}"',
                "Location": f"{self.hub.content_url}/content/{digest}?signature=x",
            }
            self._send(302, b"", headers)
        else:
            self._body(content, fault, headers)

    def _content(self, digest: str, fault: Fault | None) -> None:
        for commits in self.hub.repositories.values():
            for files in commits.values():
                for content in files.values():
                    if digest_of(content) == digest:
                        self._body(content, fault, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})
                        return
        self._send(404, b"")

    def _body(self, content: bytes, fault: Fault | None, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, end, status = 0, len(content), 200
        if wanted and not (fault and fault.ignore_range):
            start, status = int(wanted[1]), 206
            end = min(int(wanted[2] or end) + 1, end)
            headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        body = content[start:end]
        if fault and fault.corrupt:
            body = bytes(byte ^ 0xFF for byte in body)
        self._send(status, body, headers, fault)

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.hold_after is not None:
            self.wfile.write(body[: fault.hold_after])
            fault.holding.set()
            fault.release.wait(60)
            self.close_connection = True
        elif fault and fault.cut_after is not None:
            self.wfile.write(body[: fault.cut_after])
            self.close_connection = True
        elif fault and fault.bytes_per_s is not None:
            step = max(fault.bytes_per_s // 20, 1)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                fault.release.wait(0.05)  # after the release at full speed
        else:
            self.wfile.write(body)


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-answer is what is being tested."""


@contextmanager
def running_hub(*, tls: ssl.SSLContext | None = None) -> Iterator[Hub]:
    """Serve until the block ends; the hub and its content store are two origins."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_QuietServer(("127.0.0.1", 0), handler) for _ in range(2)]
    if tls is not None:
        servers[0].socket = tls.wrap_socket(servers[0].socket, server_side=True)
    scheme = "https" if tls else "http"
    hub.url, hub.content_url = (f"{scheme}://127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        for fault in hub.faults:
            fault.release.set()
        for server in servers:
            server.shutdown()
            server.server_close()

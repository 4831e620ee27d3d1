"""Requests to one server. Every error of the HTTP libraries is translated here, and nowhere else.

Whatever a server sends is bounded: in bytes, in the time between two of them, and in the time of the whole.
"""

import codecs
import json
import re
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

import httpcore2
import httpx2
from msgspec import Struct

from tanuki_cli.engines.remote.address import LOOPBACK, Address
from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.engines.remote.failures import Failures, JsonObject
from tanuki_cli.engines.remote.sockets import CancelFlag, TimeIsUp
from tanuki_cli.engines.remote.transport import CancellableTransport, find_proxy
from tanuki_cli.i18n import _
from tanuki_cli.text.redaction import redact_json, remember_secret

_MAX_ERROR_BODY: Final = 1 << 16
_MAX_BODY: Final = 4 << 20
"""Bytes of an answer to a small question; a gateway's list of a thousand models has 300 KB."""

_SECRET_NAME: Final = re.compile(r"key|token|secret|sig|pass|auth|code", re.IGNORECASE)

END: Final[JsonObject] = MappingProxyType({})
"""Stands for ``[DONE]`` in a stream of events, and for the end of an answer in one piece."""


class RemoteTimeouts(Struct, frozen=True, kw_only=True):
    """Seconds.

    To wait for a connection; for the whole answer to a small question; for the next byte while the server
    works (a long prompt on a slow machine takes minutes); for the next event, which comments and single
    bytes only promise; and for a whole answer.
    """

    connect: float = 10.0
    probe: float = 10.0
    silence: float = 300.0
    event: float = 900.0
    total: float = 6 * 3600.0


class StreamLimits(Struct, frozen=True, kw_only=True):
    """How much an answer of ``tokens`` tokens, each with so many ``alternatives``, may be.

    Every token may come in an event of its own.
    """

    tokens: int
    alternatives: int = 0

    @property
    def events(self) -> int:
        """With room for reasoning, statistics and signs of life."""
        return 1000 + 8 * self.tokens

    @property
    def bytes(self) -> int:
        """The events of vLLM with token ids have about 300; an alternative of llama-server has about 200."""
        return _MAX_BODY + (4096 + 1024 * self.alternatives) * self.tokens


class RemoteConnection:
    """Requests to the server at ``base_url``; all of them can be cancelled through ``flag``."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: ApiKey | None,
        timeouts: RemoteTimeouts,
        flag: CancelFlag,
        key_hint: str = "",
    ) -> None:
        self.address = Address.parse(base_url)
        url = self.address.url
        self.host = self.address.host
        self._has_key = api_key is not None
        proxy = find_proxy(url)
        self.failures = Failures(
            host=self.host,
            base_url=str(self.address),
            api_key=api_key,
            key_hint=key_hint,
            proxied=proxy is not None,
        )
        self._timeouts = timeouts
        self._flag = flag
        headers = {
            "User-Agent": "tanuki",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        for name, value in url.params.items():
            if _SECRET_NAME.search(name):  # others, such as api-version, are said by anybody
                remember_secret(value)
        if api_key is not None:
            remember_secret(api_key.value)
            headers["Authorization"] = f"Bearer {api_key.value}"
        transport = CancellableTransport(tls=url.scheme == "https", proxy=proxy, flag=flag)
        # A redirect is told, and not followed: it may lead to another host.
        self._client = httpx2.Client(
            transport=transport, headers=headers, follow_redirects=False, trust_env=False
        )

    @property
    def sends_key_in_the_clear(self) -> bool:
        """Whether the API key can be read on the way to the server."""
        url = self.address.url
        return self._has_key and url.scheme == "http" and url.host not in LOOPBACK

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get_value(self, url: str) -> object:
        """The JSON value at ``url``. Raises RequestFailed."""
        return self._small("GET", url, b"")

    def get(self, url: str) -> JsonObject:
        """The JSON object at ``url``. Raises RequestFailed."""
        return self._object(self.get_value(url))

    def post(self, url: str, body: JsonObject) -> JsonObject:
        """The JSON object that answers ``body``. Raises RequestFailed."""
        return self._object(self._small("POST", url, _encode(body)))

    def events(self, url: str, body: JsonObject, limits: StreamLimits) -> Generator[JsonObject, None, None]:
        """The JSON objects of a stream of server-sent events, up to :data:`END` or its end.

        An answer in one piece, without a stream, is one object and :data:`END`. An event named "error" comes
        as an object with an ``error``. Closing the generator closes the connection. Raises RequestFailed and
        GenerationCancelled.
        """
        ends = time.monotonic() + self._timeouts.total
        with (
            self._translated(self._timeouts.silence),
            self._deadline(min(self._timeouts.event, self._timeouts.total)),
            self._client.stream(
                "POST", url, content=_encode(body), timeout=self._timeout(self._timeouts.silence)
            ) as response,
        ):
            self._check(response)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json":
                yield self._object(self._json(self._read(response)))
                yield END
                return
            if kind != "text/event-stream":
                raise self.failures.broken(_("it does not stream its answer"))
            for count, event in enumerate(self._server_sent(response, limits.bytes)):
                if count == limits.events:
                    raise self.failures.broken(_("it is longer than any answer"))
                yield event
                if event is END:
                    return
                self._flag.deadline = min(ends, time.monotonic() + self._timeouts.event)

    def _server_sent(self, response: httpx2.Response, most: int) -> Iterator[JsonObject]:
        # EventSource would put U+FFFD for broken UTF-8; a broken answer must be told from a real one.
        strict = httpx2.Response(
            200,
            headers={"content-type": "text/event-stream; charset=utf-8"},
            content=self._utf8(self._bounded(response, most)),
            request=response.request,
        )
        for event in httpx2.EventSource(strict):
            if event.data.strip() == "[DONE]":
                yield END
            elif event.event == "error":
                yield self._error_event(event.data)
            elif event.data:
                yield self._object(self._json(event.data))

    def _error_event(self, data: str) -> JsonObject:
        try:
            value = redact_json(json.loads(data))
        except (ValueError, RecursionError):
            value = data
        return value if isinstance(value, dict) and value.get("error") else {"error": value or "error"}

    def _small(self, method: str, url: str, content: bytes) -> object:
        with (
            self._translated(self._timeouts.probe, streaming=False),
            self._deadline(self._timeouts.probe),
            self._client.stream(
                method, url, content=content, timeout=self._timeout(self._timeouts.probe)
            ) as response,
        ):
            self._check(response)
            return self._json(self._read(response))

    def _timeout(self, read: float) -> httpx2.Timeout:
        return httpx2.Timeout(read, connect=self._timeouts.connect)

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """End every wait of the block so many seconds from now."""
        self._flag.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._flag.deadline = float("inf")

    def _read(self, response: httpx2.Response) -> str:
        return b"".join(self._utf8(self._bounded(response, _MAX_BODY))).decode("utf-8")

    def _bounded(self, response: httpx2.Response, most: int) -> Iterator[bytes]:
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > most:
                raise self.failures.broken(_("it is longer than any answer"))
            yield chunk

    def _utf8(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode("utf-8")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as exc:
            raise self.failures.broken(_("it is not valid UTF-8")) from exc

    def _json(self, text: str) -> object:
        try:
            return redact_json(json.loads(text))
        except (ValueError, RecursionError) as exc:
            raise self.failures.broken(_("it is not valid JSON")) from exc

    def _object(self, value: object) -> JsonObject:
        if not isinstance(value, dict):
            raise self.failures.broken(_("it is not a JSON object"))
        return value

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
        self._flag.deadline = min(self._flag.deadline, time.monotonic() + self._timeouts.probe)
        content = b""
        for chunk in response.iter_bytes():
            content += chunk[: _MAX_ERROR_BODY - len(content)]
            if len(content) == _MAX_ERROR_BODY:
                break
        text = content.decode("utf-8", errors="replace")
        try:
            body = redact_json(json.loads(text))
        except (ValueError, RecursionError):
            body = None
        body = body if isinstance(body, dict) else {}
        raise self.failures.status(response, body, text)

    @contextmanager
    def _translated(self, timeout: float, *, streaming: bool = True) -> Iterator[None]:
        try:
            yield
        except TimeIsUp as exc:
            raise self.failures.too_slow() from exc
        except httpcore2.ConnectTimeout as exc:
            if exc.args and isinstance(exc.args[0], httpcore2.ReadTimeout):
                raise self.failures.no_handshake() from exc
            raise self.failures.unreachable(_("it did not answer in time"), retryable=True) from exc
        except httpcore2.TimeoutException as exc:
            raise self.failures.silent(timeout) from exc
        except httpcore2.ConnectError as exc:
            raise self.failures.connecting(exc) from exc
        except httpcore2.ProxyError as exc:
            raise self.failures.proxy_refused(str(exc)) from exc
        except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as exc:
            raise (self.failures.cut() if streaming else self.failures.hung_up()) from exc
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, httpx2.HTTPError) as exc:
            raise self.failures.broken(str(exc) or type(exc).__name__) from exc


def _encode(body: JsonObject) -> bytes:
    """JSON in UTF-8; lone surrogates, which UTF-8 cannot hold, become U+FFFD as in the tokenizer."""
    text = json.dumps(dict(body), ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text).encode("utf-8")

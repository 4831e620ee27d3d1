"""Requests to one server. Every error of the HTTP libraries is translated here, and nowhere else."""

import codecs
import json
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import httpcore2
import httpx2

from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.engines.remote.failures import Failures, JsonObject
from tanuki_cli.engines.remote.sockets import CancelFlag
from tanuki_cli.engines.remote.transport import LOOPBACK, CancellableTransport, find_proxy
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _

_MAX_ERROR_BODY: Final = 1 << 16

END: Final[JsonObject] = MappingProxyType({})
"""Stands for ``[DONE]`` in a stream of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTimeouts:
    """Seconds to wait: for a connection, for an answer to a small question, and for the next sign of
    life while the server works (a long prompt on a slow machine takes minutes).
    """

    connect: float = 10.0
    probe: float = 15.0
    silence: float = 300.0


def parse_base_url(text: str) -> httpx2.URL:
    """The API's root, such as ``http://host:8000/v1``; ``/v1`` is added where there is no path.

    Raises InputError for anything else than http(s), and for a URL with a password in it: what
    stands on a command line is no secret.
    """
    try:
        url = httpx2.URL(text.rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.userinfo or "@" in text:
        raise InputError(
            _("The address of the server must not contain a user name or a password."),
            hint="export TANUKI_API_KEY=…",
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(
            _("{address} is not the address of a server.").format(address=text),
            hint=_("It looks like this: http://localhost:8000/v1"),
        )
    return url.copy_with(path="/v1") if url.path in ("", "/") else url


class RemoteConnection:
    """Requests to the server at ``base_url``; all of them can be cancelled through ``flag``.

    ``root`` is the address without the final ``/v1``, where the servers' own endpoints are.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: ApiKey | None,
        timeouts: RemoteTimeouts,
        flag: CancelFlag,
        key_hint: str = "",
    ) -> None:
        self._url = parse_base_url(base_url)
        self.base_url = str(self._url)
        self.root = self.base_url.removesuffix("/v1")
        self.host = urlsplit(self.base_url).netloc
        self._has_key = api_key is not None
        proxy = find_proxy(self._url)
        self.failures = Failures(
            host=self.host,
            base_url=self.base_url,
            api_key=api_key,
            key_hint=key_hint,
            proxied=proxy is not None,
        )
        self._timeouts = timeouts
        headers = {
            "User-Agent": "tanuki",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key.value}"
        transport = CancellableTransport(tls=self._url.scheme == "https", proxy=proxy, flag=flag)
        # A redirect is told, and not followed: it may lead to another host.
        self._client = httpx2.Client(
            transport=transport, headers=headers, follow_redirects=False, trust_env=False
        )

    @property
    def sends_key_in_the_clear(self) -> bool:
        """Whether the API key can be read on the way to the server."""
        return self._has_key and self._url.scheme == "http" and self._url.host not in LOOPBACK

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get(self, url: str) -> JsonObject:
        """The JSON object at ``url``. Raises RequestFailed."""
        return self._small("GET", url, b"")

    def post(self, url: str, body: JsonObject) -> JsonObject:
        """The JSON object that answers ``body``. Raises RequestFailed."""
        return self._small("POST", url, _encode(body))

    def events(self, url: str, body: JsonObject) -> Generator[JsonObject, None, None]:
        """The JSON objects of a stream of server-sent events, up to :data:`END` or its end.

        Closing the generator closes the connection. Raises RequestFailed and GenerationCancelled.
        """
        timeout = self._timeout(self._timeouts.silence)
        with (
            self._translated(self._timeouts.silence),
            self._client.stream("POST", url, content=_encode(body), timeout=timeout) as response,
        ):
            self._check(response)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise self.failures.broken(_("it does not stream its answer"))
            # EventSource would put U+FFFD for broken UTF-8; a broken answer must be told from a real one.
            strict = httpx2.Response(
                200,
                headers={"content-type": "text/event-stream; charset=utf-8"},
                content=self._utf8(response.iter_bytes()),
                request=response.request,
            )
            for event in httpx2.EventSource(strict):
                if event.data.strip() == "[DONE]":
                    yield END
                    return
                if event.data:
                    yield self._object(event.data)

    def _small(self, method: str, url: str, content: bytes) -> JsonObject:
        timeout = self._timeout(self._timeouts.probe)
        with (
            self._translated(self._timeouts.probe, streaming=False),
            self._client.stream(method, url, content=content, timeout=timeout) as response,
        ):
            self._check(response)
            return self._object(b"".join(self._utf8(response.iter_bytes())).decode("utf-8"))

    def _timeout(self, read: float) -> httpx2.Timeout:
        return httpx2.Timeout(read, connect=self._timeouts.connect)

    def _utf8(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode("utf-8")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as exc:
            raise self.failures.broken(_("it is not valid UTF-8")) from exc

    def _object(self, text: str) -> JsonObject:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise self.failures.broken(_("it is not valid JSON")) from exc
        if not isinstance(value, dict):
            raise self.failures.broken(_("it is not a JSON object"))
        return value

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
        content = b""
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_ERROR_BODY:
                break
        text = content.decode("utf-8", errors="replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        body = body if isinstance(body, dict) else {}
        raise self.failures.status(response, body, text)

    @contextmanager
    def _translated(self, timeout: float, *, streaming: bool = True) -> Iterator[None]:
        try:
            yield
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

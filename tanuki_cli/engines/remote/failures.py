"""What can go wrong with a server, in the user's words.

No message contains the API key, even where the server quotes it.
"""

import json
import re
import ssl
from collections.abc import Mapping
from typing import Final

import httpcore2
import httpx2

from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.errors import RemoteError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.machine.proxies import proxy_hint
from tanuki_cli.text.redaction import PLACE, redact

_RETRYABLE_STATUS: Final = frozenset((408, 425, 429, 502, 503, 504))
_MAX_DETAIL: Final = 300
MAX_COUNT: Final = 2**31 - 1
"""More of anything than a server can count; the history takes no more either."""
_OVERFLOW: Final = re.compile(
    r"context[ _](?:length|size|window)|maximum context|max_model_len|exceed_context|too many tokens", re.I
)

JsonObject = Mapping[str, object]


class RequestFailed(RemoteError):
    """One request failed; as a RemoteError it can be shown as it is.

    ``status`` is the HTTP status if there was one, ``detail`` what the server said. ``retryable`` says
    that trying again may help, ``retry_after`` when, in seconds. ``prompt_tokens`` and
    ``context_length`` are the counts that llama-server gives with a prompt that is too long.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None,
        retryable: bool = False,
        status: int | None = None,
        detail: str = "",
        retry_after: float | None = None,
        prompt_tokens: int | None = None,
        context_length: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length

    @property
    def context_overflow(self) -> bool:
        """Whether the server said that the prompt is too long."""
        return self.status in (None, 400, 413, 422) and bool(_OVERFLOW.search(self.detail))


class Failures:
    """Makes the failures of requests to one server."""

    def __init__(
        self, *, host: str, base_url: str, api_key: ApiKey | None, key_hint: str, proxied: bool
    ) -> None:
        self.host = host
        self._base_url = base_url
        self._api_key = api_key
        self._key_hint = key_hint
        self._proxied = proxied

    def cut(self) -> RequestFailed:
        """The failure for a stream that ended before the answer did."""
        return RequestFailed(
            _("The connection to {host} broke off in the middle of the answer.").format(host=self.host),
            hint=_("What has arrived is kept. To ask again in a chat: /retry"),
            retryable=True,
        )

    def hung_up(self) -> RequestFailed:
        """The failure for a connection that was closed instead of answered."""
        return RequestFailed(
            _("{host} closed the connection without an answer.").format(host=self.host),
            hint=_("If the server uses TLS, write https:// instead of http://.")
            if self._base_url.startswith("http://")
            else _("The server's own log says more."),
            retryable=True,
        )

    def reported(self, error: object) -> RequestFailed:
        """The failure that the server told of inside a stream."""
        detail = self._detail(error)
        return RequestFailed(
            _("{host} stopped with an error: {detail}").format(host=self.host, detail=detail),
            hint=_("The server's own log says more. To ask again in a chat: /retry"),
            detail=detail,
        )

    def broken(self, reason: str) -> RequestFailed:
        """The failure for an answer that is not what it should be."""
        return RequestFailed(
            _("The answer of {host} cannot be read: {reason}.").format(
                host=self.host, reason=self._clean(reason)
            ),
            hint=_("Is it an OpenAI-compatible server? See: curl {url}").format(
                url=f"{self._base_url}/models"
            ),
        )

    def empty(self) -> RequestFailed:
        """The failure for an answer without anything in it that could be read."""
        return RequestFailed(
            _("{host} sent no answer that can be read.").format(host=self.host),
            hint=_("The server's own log says more. To ask again in a chat: /retry"),
        )

    def too_slow(self) -> RequestFailed:
        """The failure for an answer that goes on, but does not get anywhere."""
        return RequestFailed(
            _("{host} took too long for its answer, although it kept sending.").format(host=self.host),
            hint=_("The server's own log says more. To ask again in a chat: /retry"),
        )

    def silent(self, seconds: float) -> RequestFailed:
        """The failure for a server that stopped sending."""
        return RequestFailed(
            _("{host} sent nothing for {seconds:g} seconds.").format(host=self.host, seconds=seconds),
            hint=_("What has arrived is kept. To ask again in a chat: /retry"),
        )

    def proxy_refused(self, reason: str) -> RequestFailed:
        """The failure for a proxy that does not let the request through."""
        return RequestFailed(
            _("The proxy does not let the request through: {reason}").format(reason=self._clean(reason)),
            hint=proxy_hint(),
        )

    def connecting(self, exc: httpcore2.ConnectError) -> RequestFailed:
        """The failure for a connection that could not be made."""
        cause = exc.args[0] if exc.args else None  # the transport puts the socket's own error there
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RequestFailed(
                _("The certificate of {host} is not trusted: {reason}").format(
                    host=self.host, reason=cause.verify_message
                ),
                hint=_("If it is your own server, name its certificate: export SSL_CERT_FILE=server.pem"),
            )
        if isinstance(cause, ssl.SSLError):
            return self._no_encryption(str(cause.reason or cause))
        reason = (os_reason(cause) if isinstance(cause, OSError) else "") or str(exc)
        return self.unreachable(reason, retryable=isinstance(cause, ConnectionError))

    def no_handshake(self) -> RequestFailed:
        """The failure for a server that takes a connection, but says nothing to the greeting of TLS."""
        return self._no_encryption(_("it did not answer in time"))

    def _no_encryption(self, reason: str) -> RequestFailed:
        return RequestFailed(
            _("No encrypted connection to {host} can be made: {reason}").format(
                host=self.host, reason=reason
            ),
            hint=_("If the server does not use TLS, write http:// instead of https://."),
        )

    def unreachable(self, reason: str, *, retryable: bool) -> RequestFailed:
        """The failure for a server that could not be reached."""
        if self._proxied:
            return self.proxy_refused(reason)
        return RequestFailed(
            _("{host} cannot be reached: {reason}").format(host=self.host, reason=reason),
            hint=_("Is the server running there? curl {url}").format(url=f"{self._base_url}/models"),
            retryable=retryable,
        )

    def status(self, response: httpx2.Response, body: JsonObject, text: str) -> RequestFailed:
        """The failure for an HTTP status other than 200; ``text`` is what came with it, ``body`` its JSON."""
        status = response.status_code
        error = body.get("error", body) if body else text
        detail = self._detail(error)
        counts = error if isinstance(error, dict) else {}
        message, hint = self._status_message(status, detail, response)
        return RequestFailed(
            message,
            hint=hint,
            retryable=status in _RETRYABLE_STATUS,
            status=status,
            detail=self._clean(text),
            retry_after=_seconds(response.headers.get("retry-after")),
            prompt_tokens=as_count(counts.get("n_prompt_tokens")),
            context_length=as_count(counts.get("n_ctx")),
        )

    def _status_message(self, status: int, detail: str, response: httpx2.Response) -> tuple[str, str]:
        where = {"host": self.host, "status": status, "detail": detail}
        log_hint = _("The server's own log says more.")
        if status in (401, 403):
            if self._api_key is None:
                return _("{host} wants an API key.").format(**where), self._key_hint
            message = _("{host} does not accept the API key from {source}.")
            return message.format(host=self.host, source=self._api_key.source), _(
                "Check the key, or get a new one."
            )
        if status == 404 and "model" not in detail.lower():
            path = response.request.url.path
            return _("{host} has no {path}.").format(host=self.host, path=path), self._models_hint()
        if status == 429:
            return _("{host} has too many requests now.").format(**where), _(
                "Wait a little, then ask again; in a chat: /retry"
            )
        if status == 503:
            return (
                _("{host} is not ready: {detail}").format(**where),
                _("It may still be loading the model. Try again in a while."),
            )
        if 300 <= status < 400:
            location = self._clean(response.headers.get("location", ""))
            return (
                _("{host} sends to another address, which is not followed.").format(**where),
                _("If you trust it, use that address itself: {address}").format(address=location),
            )
        if status >= 500:
            return _("{host} failed with status {status}: {detail}").format(**where), log_hint
        hint = log_hint if status != 404 else _("See what it serves: curl {url}").format(url=self._models_url)
        return _("{host} refused the request with status {status}: {detail}").format(**where), hint

    def _models_hint(self) -> str:
        return _("The address usually ends in /v1. See what is there: curl {url}").format(
            url=self._models_url
        )

    @property
    def _models_url(self) -> str:
        return f"{self._base_url}/models"

    def _detail(self, error: object) -> str:
        """The human part of the many shapes an error comes in."""
        if isinstance(error, dict):
            error = next((error[name] for name in ("message", "detail", "error") if error.get(name)), error)
        text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
        return self._clean(text)[:_MAX_DETAIL] or "-"

    def _clean(self, text: str) -> str:
        if self._api_key is not None:
            text = text.replace(self._api_key.value, PLACE)  # also a key too short to be looked for elsewhere
        return " ".join(redact(text).split())


def _seconds(value: str | None) -> float | None:
    """A Retry-After header in seconds; its date form counts as absent."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def as_count(value: object) -> int | None:
    """A count that a server gives; None for anything that cannot be one, which then counts as absent."""
    right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if right and isinstance(value, int) else None

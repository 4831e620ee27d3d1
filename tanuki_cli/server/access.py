"""Who may ask: the checks before anything of a request is read.

Without a key the server is for this machine's own programs, and a browser must not be talked into asking
for a web page: the Host has to be a loopback name (a page's own name may be made to lead here), and an
Origin has to be the server's own or a named one.
"""

import hmac
import ipaddress
from typing import Final

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tanuki_cli.server.faults import ApiError

OPEN_PATHS: Final = frozenset(("/health", "/"))
"""Answered without a key: they say nothing of the model's texts."""
ANY_ORIGIN: Final = "*"
MAX_HEAD: Final = 16 << 10


class Access(Struct, frozen=True, kw_only=True):
    """``keys``: any of them opens the server; without one it is open. ``origins``: the web pages that may
    ask, as browsers name them."""

    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(origins={self.origins!r})"  # never a key

    def check(self, path: str, headers: Headers) -> None:
        """Raise ApiError, 401, 403 or 431, unless a request with ``headers`` may ask for ``path``."""
        if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEAD:
            # uvicorn bounds only what is left over when a head comes in parts.
            raise ApiError(431, f"The head of the request is larger than {MAX_HEAD} bytes.")
        host = headers.get("host", "")
        if not self.keys and not is_loopback(host_name(host)):
            raise ApiError(
                403, "Without an API key this server answers to localhost only.", code="wrong_host"
            )
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin, host):
            message = "This web page is not allowed to ask; see: tanuki help serve (--allow-origin)"
            raise ApiError(403, message, code="wrong_origin")
        if self.keys and path not in OPEN_PATHS and not self.knows(headers):
            raise ApiError(
                401,
                "The API key is missing or wrong.",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    def knows(self, headers: Headers) -> bool:
        """Whether the bearer of a key asks, or none is needed."""
        kind, _blank, given = headers.get("authorization", "").partition(" ")
        # Every key is compared, and as a whole: time tells nothing of them.
        same = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in self.keys]
        return not self.keys or (kind.lower() == "bearer" and any(same))

    def _allows(self, origin: str, host: str) -> bool:
        own = (f"http://{host}", f"https://{host}")
        return ANY_ORIGIN in self.origins or origin in self.origins or origin in own


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Whether ``name`` is this machine's own, as it is spelt."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets a request through to ``app`` if ``access`` allows it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            try:
                self._access.check(scope["path"], Headers(scope=scope))
            except ApiError as error:
                response = JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

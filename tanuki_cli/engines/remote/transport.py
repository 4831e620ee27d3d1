"""An httpx2 transport on cancellable sockets, and the proxy that the environment names."""

import ssl
from collections.abc import Iterator
from importlib.util import find_spec

import httpcore2
import httpx2

from tanuki_cli.engines.remote.address import LOOPBACK
from tanuki_cli.engines.remote.sockets import CancelFlag, CancellableBackend
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _
from tanuki_cli.machine import proxies
from tanuki_cli.machine.certificates import certificate_fault
from tanuki_cli.machine.packages import pip_install


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class CancellableTransport(httpx2.BaseTransport):
    """One new connection per request, through ``proxy`` if there is one.

    Network errors stay httpcore2's; the caller translates them. Connections are not kept: closing
    the response closes the socket, which is what tells a server to stop generating.
    """

    def __init__(self, *, tls: bool, proxy: httpcore2.Proxy | None, flag: CancelFlag) -> None:
        self._pool = httpcore2.ConnectionPool(
            # Reading all certificates takes a while; where none is needed there is no use in it.
            ssl_context=_trusted() if tls else None,
            proxy=proxy,
            max_keepalive_connections=0,
            network_backend=CancellableBackend(flag),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; the body of the response is still to be read."""
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def _trusted() -> ssl.SSLContext:
    if fault := certificate_fault():
        raise RemoteError(fault[0], hint=fault[1])
    return httpx2.create_ssl_context()


def find_proxy(url: httpx2.URL) -> httpcore2.Proxy | None:
    """What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say; this machine is always reached directly.

    Raises RemoteError if what they say cannot be used.
    """
    address = None if url.host in LOOPBACK else proxies.find_proxy(str(url))
    if address is None:
        return None
    try:
        proxy = httpx2.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx2.InvalidURL):
        # Not "from exc": the address may hold a password.
        raise RemoteError(
            _("The address of the proxy in the environment cannot be used."), hint=proxies.proxy_hint()
        ) from None
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise RemoteError(_("A SOCKS proxy needs the package socksio."), hint=pip_install("socksio"))
    return httpcore2.Proxy(str(proxy.url), auth=proxy.raw_auth)

"""What goes wrong between here and the hub, in words: the only place that knows the libraries' errors.

Every fault becomes a DownloadError with a sentence and the next step. :class:`TransientFault` marks
those that are worth another try at once.
"""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tanuki_cli.errors import DownloadError
from tanuki_cli.files import os_reason
from tanuki_cli.hub.files import disk_fault
from tanuki_cli.i18n import _
from tanuki_cli.machine.certificates import certificate_fault
from tanuki_cli.machine.proxies import find_proxy, proxy_hint
from tanuki_cli.text.strict_json import json_fault


class TransientFault(DownloadError):
    """May be gone in a moment. ``retry_after`` is how many seconds the hub asked to wait."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class UnreachableFault(TransientFault):
    """No connection: pointless to repeat at once, unless there was one a moment ago."""


class MissingError(DownloadError):
    """The hub answered: it has no such repository, revision or file, or does not show it."""


@contextmanager
def translated(repository: str, *, name: str, path: str | None = None) -> Iterator[None]:
    """Turn what the libraries raise while ``repository`` is asked into a DownloadError.

    ``name`` is the model as users call it, for the hint; ``path`` the file that is being fetched.
    """
    if fault := certificate_fault():  # the client reads them, even for a mirror without TLS
        raise DownloadError(fault[0], hint=fault[1])
    try:
        yield
    except HfHubHTTPError as exc:
        raise _status_fault(exc, repository, name, path) from exc
    except OfflineModeIsEnabled as exc:
        raise offline_error(name) from exc
    except HFValidationError as exc:
        raise DownloadError(
            _("{name} is not a name the hub knows: {reason}").format(name=repository, reason=exc),
            hint=_("All names: tanuki models"),
        ) from exc
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise _transport_fault(exc, name) from exc
    except (ImportError, ValueError, RecursionError) as exc:  # the last of JSON that is nested too deep
        raise _setup_fault(exc) from exc
    except OSError as exc:  # the library reads the user's token from the cache
        raise disk_fault(exc, Path(exc.filename or constants.HF_HOME)) from exc


def offline_error(name: str) -> DownloadError:
    """``name`` is not whole here, and the network must not be touched."""
    return DownloadError(
        _("{name} is not installed, and the network is not to be used.").format(name=name),
        hint=_("Without --offline, TANUKI_OFFLINE and HF_HUB_OFFLINE: {command}").format(command=_pull(name)),
    )


def cut_off(received: int, expected: int) -> TransientFault:
    """The answer ended early without an error."""
    return TransientFault(
        _("The connection ended after {received} of {expected} bytes.").format(
            received=received, expected=expected
        ),
        hint=_("The next pull resumes where this one ended."),
    )


def _pull(name: str) -> str:
    return f"tanuki pull {name}"


def _status_fault(exc: HfHubHTTPError, repository: str, name: str, path: str | None) -> DownloadError:
    status = exc.response.status_code
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(exc, GatedRepoError) or status == 403:
        return MissingError(
            _("{repository} is gated: its owner must let you in first.").format(repository=repository)
            if isinstance(exc, GatedRepoError)
            else _("You may not read {repository} (403).").format(repository=repository),
            hint=_("Accept the terms at {page} and set HF_TOKEN to your token.").format(page=page),
        )
    if isinstance(exc, RevisionNotFoundError):
        return MissingError(
            _("{repository} has no such revision.").format(repository=repository),
            hint=f"{_pull(name)} --revision main",
        )
    if isinstance(exc, RemoteEntryNotFoundError) or (status == 404 and path):
        return MissingError(
            _("{repository} has no file {path}.").format(repository=repository, path=path),
            hint=_("See what it has: {page}").format(page=f"{page}/tree/main"),
        )
    if status == 401 and not isinstance(exc, RepositoryNotFoundError):
        return MissingError(
            _("The hub does not accept your token, or {repository} needs one.").format(repository=repository),
            hint=_("Set HF_TOKEN to a valid token: {page}").format(
                page=f"{constants.ENDPOINT}/settings/tokens"
            ),
        )
    if isinstance(exc, RepositoryNotFoundError) or status in (401, 404):
        return MissingError(
            _("The hub has no repository {repository}, or it is private.").format(repository=repository),
            hint=_("Check the name; for a private one set HF_TOKEN."),
        )
    return _busy_fault(exc, status, name)


def _busy_fault(exc: HfHubHTTPError, status: int, name: str) -> DownloadError:
    if status == 429:
        wait = _retry_after(exc.response)
        return TransientFault(
            _("The hub allows no more requests for now (429).")
            if wait is None
            else _("The hub allows no more requests for {seconds:.0f} seconds (429).").format(seconds=wait),
            hint=_("Wait, then {command}; setting HF_TOKEN raises the limit.").format(command=_pull(name)),
            retry_after=wait,
        )
    if status >= 500 or status == 408:
        return TransientFault(
            _("The hub has a problem of its own ({status}).").format(status=status),
            hint=_("Try again later: {command}").format(command=_pull(name)),
            retry_after=_retry_after(exc.response),
        )
    return DownloadError(
        _("The hub refused the request ({status}).").format(status=status),
        hint=_("Is {endpoint} a hub? HF_ENDPOINT names another.").format(endpoint=constants.ENDPOINT),
    )


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isdigit() else None


def _transport_fault(exc: Exception, name: str) -> DownloadError:
    url = _asked(exc)
    host, proxy = urlsplit(url).hostname or url, _proxy(url)
    if _caused_by(exc, ssl.SSLError):
        return DownloadError(
            _("The secure connection to {host} failed: {reason}").format(host=host, reason=_innermost(exc)),
            hint=_("Check the clock of this machine; behind a company proxy set SSL_CERT_FILE to its CA."),
        )
    if isinstance(exc, httpx2.ProxyError):
        return UnreachableFault(
            _("The proxy {proxy} refuses: {reason}").format(proxy=proxy, reason=_innermost(exc)),
            hint=proxy_hint(),
        )
    if isinstance(exc, (httpx2.ConnectError, httpx2.ConnectTimeout)) and proxy:
        return UnreachableFault(
            _("The proxy {proxy} does not answer: {reason}").format(proxy=proxy, reason=_innermost(exc)),
            hint=proxy_hint(),
        )
    if isinstance(exc, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return UnreachableFault(
            _("{host} cannot be reached: {reason}").format(host=host, reason=_innermost(exc)),
            hint=_("Check the network, then {command}; HF_ENDPOINT names a mirror.").format(
                command=_pull(name)
            ),
        )
    if isinstance(exc, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return _setup_fault(exc)
    if isinstance(exc, httpx2.TimeoutException):
        message = _("{host} stopped answering.").format(host=host)
    else:
        message = _("The connection to {host} broke: {reason}").format(host=host, reason=_innermost(exc))
    return TransientFault(message, hint=_("{command} resumes where it ended.").format(command=_pull(name)))


def _setup_fault(exc: Exception) -> DownloadError:
    if isinstance(exc, ImportError) or "proxy" in str(exc).lower():
        return DownloadError(
            _("The proxy settings cannot be used: {reason}").format(reason=_innermost(exc)),
            hint=proxy_hint(),
        )
    is_of_json = isinstance(exc, (json.JSONDecodeError, RecursionError))
    reason = json_fault(exc) if is_of_json else _innermost(exc)
    return DownloadError(
        _("{endpoint} did not answer as a hub does: {reason}").format(
            endpoint=constants.ENDPOINT, reason=reason
        ),
        hint=_("Check HF_ENDPOINT and the proxy variables; a Wi-Fi sign-in page also looks like this."),
    )


def _asked(exc: Exception) -> str:
    """The address that failed: the hub's, or that of the store it sends to for large files."""
    try:
        return str(exc.request.url) if isinstance(exc, httpx2.RequestError) else constants.ENDPOINT
    except RuntimeError:  # the request was never built
        return constants.ENDPOINT


def _proxy(url: str) -> str | None:
    """Host and port of the proxy that requests to ``url`` go through, without its password."""
    proxy = find_proxy(url)
    return proxy.rpartition("://")[2].rpartition("@")[2] if proxy else None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = exc
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _caused_by(exc: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(link, kind) for link in _chain(exc))


def _innermost(exc: BaseException) -> str:
    """The system's own words, which are further down the chain than the library's."""
    links = [link for link in reversed(list(_chain(exc))) if str(link)]
    for link in links:
        # The library below wraps the system's error into one that has its text only.
        if isinstance(link, OSError) and link.errno is not None and not isinstance(link, ssl.SSLError):
            return os_reason(link)
    return str(links[0]) if links else type(exc).__name__

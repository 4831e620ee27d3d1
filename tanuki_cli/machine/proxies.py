"""The proxy that the environment names for an address, looked up in one place for the hub and for servers."""

import ipaddress
import os
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

from tanuki_cli.i18n import _

_ADDRESS = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_proxy(url: str) -> str | None:
    """The address of the proxy that requests to ``url`` go through, as HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
    NO_PROXY say, or the system's own settings; None for a direct way. It may hold a password.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host) or _in_a_block(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all") or None


def proxy_hint() -> str:
    """What to do about a proxy that does not work."""
    return _("Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or add the host to NO_PROXY.")


def _in_a_block(host: str) -> bool:
    """Whether NO_PROXY names ``host``, an address, by a block of addresses such as 10.0.0.0/8."""
    try:
        address: _ADDRESS = ipaddress.ip_address(host)
    except ValueError:
        return False
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in excepted.split(","):
        with suppress(ValueError):
            if "/" in entry and address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False

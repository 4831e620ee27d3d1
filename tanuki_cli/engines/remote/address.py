"""The address of a server: the root of its API, and the places below it."""

from typing import Final

import httpx2
from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _

LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


class Address(Struct, frozen=True):
    """The root of an API, such as ``http://host:8000/v1``; a query goes with every request."""

    url: httpx2.URL

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address; ``/v1`` is added where there is no path.

        Raises InputError for anything else than http(s), and for a URL with a password in it: what
        stands on a command line is no secret.
        """
        try:
            url = httpx2.URL(text)
        except httpx2.InvalidURL:
            url = httpx2.URL()
        if url.userinfo or "@" in text.partition("?")[0]:
            raise InputError(
                _("The address of the server must not contain a user name or a password."),
                hint="export TANUKI_API_KEY=…",
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(
                _("{address} is not the address of a server.").format(address=text),
                hint=_("It looks like this: http://localhost:8000/v1"),
            )
        return cls(url.copy_with(path=url.path.rstrip("/") or "/v1", fragment=None))

    def __str__(self) -> str:
        """For people to read and to paste; without the query, which may be as secret as a key."""
        return str(self.url.copy_with(query=None))

    @property
    def host(self) -> str:
        """The host, with its port where one is named."""
        return self.url.netloc.decode("ascii")

    def api(self, path: str) -> str:
        """A place of OpenAI's interface, e.g. ``/models``."""
        return str(self.url.copy_with(path=f"{self.url.path}{path}"))

    def own(self, path: str) -> str:
        """A place of the server's own, beside ``/v1``."""
        return str(self.url.copy_with(path=f"{self.url.path.removesuffix('/v1')}{path}"))

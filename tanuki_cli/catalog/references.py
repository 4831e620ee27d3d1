"""What users write after ``-m``."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tanuki_cli.catalog.types import (
    AutoReference,
    FamilyReference,
    HubReference,
    PathReference,
    PracticeReference,
    Reference,
    RemoteModel,
)
from tanuki_cli.catalog.variants import FAMILY_BY_NAME, PRACTICE_NAME, VARIANT_BY_NAME
from tanuki_cli.errors import InputError, ModelError
from tanuki_cli.i18n import _
from tanuki_cli.options import fold

# The hub's own rule for names, which also keeps a name from leaving the cache directory.
_NAME_PART: Final = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_NEAR: Final = 0.6
_REPOSITORY: Final = re.compile(rf"{_NAME_PART}/{_NAME_PART}")
_OTHER_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")
_BARE_HOST: Final = re.compile(r"(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\]):\d{1,5}(?:[/#].*)?\Z")


def parse_reference(text: str, remotes: Iterable[tuple[str, str]] = ()) -> Reference:
    """Read what a user wrote after ``-m``. ``remotes`` are the (name, URL) pairs of the settings.

    Touches no file: whether something exists is asked later. Case and full-width letters do not matter in
    the names of the catalog; a path stays as it is written. Raises ModelError with the nearest known name.
    """
    path = text.strip()
    text = fold(text)
    name = text.lower()
    servers = {server.lower(): url for server, url in remotes}
    if name in ("auto", ""):
        return AutoReference()
    if name == PRACTICE_NAME:
        return PracticeReference()
    if name in servers:
        return _remote(servers[name], name=text)
    if name.startswith(("http://", "https://")) or _OTHER_SCHEME.match(name):
        return _remote(text, name=text)
    if _BARE_HOST.match(name) and name.partition(":")[0] not in FAMILY_BY_NAME:
        raise InputError(
            _("{url} is not the address of a server.").format(url=text), hint=f"-m http://{text}"
        )
    if name.startswith("hf:"):
        return _hub_reference(text[len("hf:") :])
    if name in FAMILY_BY_NAME:
        return FamilyReference(FAMILY_BY_NAME[name])
    if name in VARIANT_BY_NAME:
        return VARIANT_BY_NAME[name]
    if name.endswith(".gguf") or path.startswith((".", "~")) or "/" in path or "\\" in path:
        return PathReference(Path(path))
    known = [known.lower() for known in reference_names(servers.items())]
    near = _nearest(name, known)
    raise ModelError(
        _("There is no model named {name}.").format(name=text),
        hint=_("Did you mean {name}? All names: tanuki models").format(name=near)
        if near
        else _("There are {names} (all: tanuki models), and any server: http://host:8000/v1").format(
            names=", ".join([*FAMILY_BY_NAME, PRACTICE_NAME])
        ),
    )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was meant to be, if one is near.

    Within a family only what follows the colon is compared: what is before it is alike in all names.
    """
    family, colon, variant = name.partition(":")
    prefix = family + colon if colon and family in FAMILY_BY_NAME else ""
    wanted = variant if prefix else name
    choices = [other.removeprefix(prefix) for other in known if other.startswith(prefix)]
    begun = [choice for choice in choices if wanted and choice.startswith(wanted)]
    near = begun or difflib.get_close_matches(wanted, choices, n=1, cutoff=_NEAR)
    return prefix + near[0] if near else None


def reference_names(remotes: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Every name that :func:`parse_reference` knows, as completion offers them."""
    return ["auto", PRACTICE_NAME, *(name for name, _url in remotes), *FAMILY_BY_NAME, *VARIANT_BY_NAME]


def _remote(url: str, *, name: str) -> RemoteModel:
    wrong = InputError(
        _("{url} is not the address of a server.").format(url=url),
        hint=_("Write it as http://host:8000/v1, with #name for one of its models."),
    )
    try:
        parts = urlsplit(url)
        _port = parts.port
    except ValueError as exc:
        raise wrong from exc
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise wrong
    base_url = parts._replace(fragment="").geturl().rstrip("/")
    return RemoteModel(name=name, base_url=base_url, served_name=parts.fragment or None)


def _hub_reference(text: str) -> HubReference:
    owner, _slash, rest = text.partition("/")
    title, _slash, filename = rest.partition("/")
    repository = f"{owner}/{title}"
    inside = all(part not in ("", ".", "..") for part in filename.split("/")) and "\\" not in filename
    if not _REPOSITORY.fullmatch(repository) or (filename and not (inside and filename.endswith(".gguf"))):
        raise ModelError(
            _("hf:{text} does not name a repository or a GGUF file of the hub.").format(text=text),
            hint=_("Write it as hf:owner/repo or hf:owner/repo/file.gguf."),
        )
    return HubReference(repository, filename or None)

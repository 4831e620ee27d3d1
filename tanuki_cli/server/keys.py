"""The API keys that open the server: from the environment, or a file of the user's."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tanuki_cli.errors import InputError, SettingsError
from tanuki_cli.files import os_reason, read_bounded
from tanuki_cli.i18n import _

VARIABLE: Final = "TANUKI_SERVER_API_KEY"
"""Not the variable that holds the key for somebody else's server: that goes to no client."""
_MAX_BYTES: Final = 1 << 16
_KEY: Final = re.compile(r"[!-~]{8,512}\Z")


def read_keys(path: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of ``path``, one a line, and that of the environment; empty where there is none.

    Raises InputError for a file that cannot be used, SettingsError for a variable; neither shows a key.
    """
    found = [] if path is None else _lines(path)
    if value := environ.get(VARIABLE, "").strip():
        if not _KEY.match(value):
            raise SettingsError(
                _("{source} has a key that cannot be one.").format(source=VARIABLE), hint=_how()
            )
        found.append(value)
    return tuple(found)


def _lines(path: Path) -> list[str]:
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InputError(
                _("{path} holds API keys, but others can read it.").format(path=path),
                hint=f"chmod 600 {path}",
            )
        lines = read_bounded(path, limit=_MAX_BYTES).decode("utf-8-sig").splitlines()
    except OSError as exc:
        raise InputError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc)), hint=_make(path)
        ) from exc
    except UnicodeDecodeError:
        raise InputError(
            _("{path} cannot be read: {reason}").format(path=path, reason=_("it is not UTF-8")), hint=_how()
        ) from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys or not all(map(_KEY.match, keys)):
        raise InputError(_("{source} has a key that cannot be one.").format(source=path), hint=_how())
    return keys


def _how() -> str:
    return _("A key is a line of 8 to 512 letters, digits and signs, without spaces.")


def _make(path: Path) -> str:
    return f"(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe())' > {path})"

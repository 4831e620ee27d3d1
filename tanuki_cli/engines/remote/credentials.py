"""API keys: from the environment, the keyring, or a file; never shown, logged or kept anywhere else.

A key belongs to one server, by the name that the settings give it, or by its address. ``TANUKI_API_KEY``
has no name in it: it goes to the server whose address the user types, and to no other.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import tomlkit
import tomlkit.exceptions
from msgspec import Struct

from tanuki_cli.errors import SettingsError
from tanuki_cli.files import os_reason, read_bounded
from tanuki_cli.i18n import _
from tanuki_cli.settings.file import MAX_BYTES

ENVIRONMENT_VARIABLE: Final = "TANUKI_API_KEY"
KEYRING_SERVICE: Final = "tanuki"

_HEADER_SAFE: Final = re.compile(r"[!-~]+\Z")


class ApiKey(Struct, frozen=True):
    """A key and where it was found; only ``value`` itself shows the key, ``repr`` and ``str`` do not."""

    value: str
    source: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(source={self.source!r})"


def environment_variable(remote_name: str) -> str:
    """The variable that holds the key of one remote: ``TANUKI_API_KEY_LAB`` for ``lab``.

    "" for names that are not ASCII: a variable cannot tell 研究室 from 自宅.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", remote_name).strip("_").upper()
    return f"{ENVIRONMENT_VARIABLE}_{name}" if name and remote_name.isascii() else ""


def require_own_variable(remote_name: str, remotes: Iterable[str]) -> None:
    """Raise SettingsError where another of ``remotes`` would take its key from the same variable."""
    variable = environment_variable(remote_name)
    for other in remotes:
        if variable and other.lower() != remote_name.lower() and environment_variable(other) == variable:
            raise SettingsError(
                _("The servers {name} and {other} would both take their key from {variable}.").format(
                    name=remote_name, other=other, variable=variable
                ),
                hint=_("Give one of them another name: {command}").format(
                    command=f"tanuki config unset remotes.{other}"
                ),
            )


def is_address(remote_name: str) -> bool:
    """Whether a server is named by its address, and not by a name that the settings give it."""
    return "://" in remote_name


def how_to_give_a_key(remote_name: str) -> str:
    """A hint for a server that wants a key and was sent none."""
    if is_address(remote_name):
        return _("export TANUKI_API_KEY=…, and name the server in the command: -m {address}").format(
            address=remote_name
        )
    if variable := environment_variable(remote_name):
        return f"export {variable}=…"
    return _('Write it into keys.toml beside config.toml: "{name}" = "…"').format(name=remote_name)


def find_api_key(
    remote_name: str,
    *,
    environ: Mapping[str, str],
    key_file: Path | None,
    named_by_user: bool = False,
    remotes: Iterable[str] = (),
) -> ApiKey | None:
    """The key for ``remote_name``, or None.

    The first of: ``TANUKI_API_KEY_<NAME>``, or ``TANUKI_API_KEY`` for an address ``named_by_user``; the
    keyring (service ``tanuki``, user ``remote_name``; only if the package keyring is there); the line
    ``name = "key"`` of ``key_file``, which must be readable by its owner only.

    Raises SettingsError, which never contains a key, also where the variable may be meant for another of
    ``remotes``.
    """
    if is_address(remote_name):
        variable = ENVIRONMENT_VARIABLE if named_by_user else ""
    else:
        variable = environment_variable(remote_name)
    if value := environ.get(variable, "").strip():
        require_own_variable(remote_name, () if is_address(remote_name) else remotes)
        return _checked(value, variable)
    if value := _from_keyring(remote_name):
        return _checked(value, _("the keyring"))
    if key_file is not None and (value := _from_file(remote_name, key_file)):
        return _checked(value, str(key_file))
    return None


def _checked(value: str, source: str) -> ApiKey:
    if not _HEADER_SAFE.match(value):
        raise SettingsError(
            _("The API key from {source} has characters that a key cannot have.").format(source=source),
            hint=_("Copy the key again, without spaces and line breaks."),
        )
    return ApiKey(value, source)


def _from_keyring(remote_name: str) -> str:
    if find_spec("keyring") is None:  # an extra that users may add: pip install keyring
        return ""
    try:
        errors = import_module("keyring.errors")
        try:
            return str(import_module("keyring").get_password(KEYRING_SERVICE, remote_name) or "").strip()
        except errors.KeyringError:
            return ""  # no usable keyring on this machine is the same as an empty one
    # What backends raise that lack a package, a file or a bus, or that a variable names wrongly.
    except (ImportError, RuntimeError, OSError, AttributeError, ValueError, TypeError):
        return ""


def _from_file(remote_name: str, path: Path) -> str:
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsError(
                _("{path} holds API keys, but others can read it.").format(path=path),
                hint=f"chmod 600 {path}",
            )
        table = tomlkit.parse(read_bounded(path, limit=MAX_BYTES).decode("utf-8-sig")).unwrap()
    except FileNotFoundError:
        return ""
    except tomlkit.exceptions.ParseError as exc:
        # Not "from exc": what the parser says may quote the file.
        raise SettingsError(
            _("{path} is not valid TOML at line {line}.").format(path=path, line=exc.line), hint=_line_hint()
        ) from None
    except (tomlkit.exceptions.TOMLKitError, RecursionError):
        raise SettingsError(_("{path} is not valid TOML.").format(path=path), hint=_line_hint()) from None
    except (OSError, UnicodeDecodeError) as exc:
        reason = os_reason(exc) if isinstance(exc, OSError) else _("it is not UTF-8")
        raise SettingsError(
            _("{path} cannot be read: {reason}").format(path=path, reason=reason), hint=_line_hint()
        ) from None
    # Names of remotes are the same in any case.
    value = {name.lower(): key for name, key in table.items()}.get(remote_name.lower(), "")
    if not isinstance(value, str):
        raise SettingsError(
            _("{path}: the key of {name} must be text in quotes.").format(path=path, name=remote_name),
            hint=_line_hint(),
        )
    return value.strip()


def _line_hint() -> str:
    return _('Each line of it is the name of a remote and its key: lab = "…"')

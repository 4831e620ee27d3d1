"""config.toml: read with line and column of what is wrong, written in one step."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tanuki_cli.errors import SettingsError
from tanuki_cli.files import os_reason, read_bounded, write_atomically
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value
from tanuki_cli.settings.specs import find_spec

if TYPE_CHECKING:  # its import is for those who have a file
    import tomlkit

REMOTES_TABLE: Final = "remotes"
MAX_BYTES: Final = 1 << 15
"""Of a file in TOML: a large one in many pieces would take tomlkit minutes."""


def read_config(path: Path) -> "tomlkit.TOMLDocument":
    """Read config.toml; a missing file is an empty one. Raises SettingsError with line and column."""
    return _parsed(_read(path) or "", path)


def _read(path: Path) -> str | None:
    """The text of the file; None if there is none."""
    try:
        return read_bounded(path, limit=MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise SettingsError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_path_hint(path, exc),
        ) from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(
            _("{path} cannot be read: {reason}").format(path=path, reason=_("it is not UTF-8")),
            hint=_edit_hint(),
        ) from exc


def _parsed(text: str, path: Path) -> "tomlkit.TOMLDocument":
    import tomlkit
    import tomlkit.exceptions

    try:
        return tomlkit.parse(text if not text or text.endswith("\n") else f"{text}\n")
    except tomlkit.exceptions.ParseError as exc:
        raise SettingsError(
            _("{path} is not valid TOML at line {line}, column {column}.").format(
                path=path, line=exc.line, column=exc.col + 1
            ),
            hint=_edit_hint(),
        ) from exc
    except (tomlkit.exceptions.TOMLKitError, RecursionError) as exc:  # what has no place
        raise SettingsError(
            _("{path} is not valid TOML: a name is there twice.").format(path=path)
            if isinstance(exc, tomlkit.exceptions.KeyAlreadyPresent)
            else _("{path} is not valid TOML.").format(path=path),
            hint=_edit_hint(),
        ) from exc


def write_config(path: Path, document: "tomlkit.TOMLDocument") -> None:
    """Replace config.toml in one step; comments and order are kept. Raises SettingsError.

    Nothing is written that could not be read again, whatever tomlkit makes of an odd file.
    """
    import tomlkit
    import tomlkit.exceptions

    text = tomlkit.dumps(document)
    try:
        same = tomlkit.parse(text) == document
    except (tomlkit.exceptions.TOMLKitError, RecursionError):
        same = False
    if not same:
        raise SettingsError(
            _("{path} cannot be changed here without harm, because of how it is written.").format(path=path),
            hint=_edit_hint(),
        )
    try:
        write_atomically(path, text)
    except OSError as exc:
        raise SettingsError(
            _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_("Check the permissions and the free space of {path}.").format(path=path.parent),
        ) from exc


def _edit_hint() -> str:
    return "tanuki config edit"


def _path_hint(path: Path, exc: OSError) -> str:
    """What to look at where ``path`` cannot be reached: the part of it that is no folder, else itself."""
    if exc.errno == errno.ENOTDIR:
        wrong = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), path)
        return _("{path} is not a folder; choose another one: export TANUKI_HOME=~/tanuki").format(path=wrong)
    return f"ls -ld {path}"


def read_settings(path: Path) -> dict[str, object]:
    """The checked values of config.toml by key, with the (name, URL) pairs of ``remotes``.

    Raises SettingsError as :func:`read_config`, and for what does not belong there.
    """
    values: dict[str, object] = {}
    text = _read(path)
    for key, item in _parsed(text, path).unwrap().items() if text else ():
        if key == REMOTES_TABLE:
            values["remotes"] = _remotes(item, path)
            continue
        try:
            spec = find_spec(key)
            values[spec.key] = check_value(spec, item)
        except ValueError as exc:
            raise SettingsError(f"{path}: {exc}", hint=_edit_hint()) from exc
        except SettingsError as exc:
            raise SettingsError(f"{path}: {exc.message}", hint=exc.hint) from exc
    return values


def _remotes(item: object, path: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(item, dict) or not all(isinstance(url, str) for url in item.values()):
        raise SettingsError(
            _('{path}: [remotes] must hold lines such as lab = "http://host:8000/v1".').format(path=path),
            hint=_edit_hint(),
        )
    return tuple((str(name), str(url)) for name, url in item.items())

"""Settings: option, then environment (``TANUKI_<KEY>``), then config.toml, then default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value, parse_value
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.file import REMOTES_TABLE, read_settings
from tanuki_cli.settings.specs import SAMPLING_KEYS, SPEC_BY_KEY, SPECS, Settings

__all__ = ["DEFAULT_CONTEXT_LENGTH", "Directories", "Settings", "in_range", "load_settings", "with_values"]

DEFAULT_CONTEXT_LENGTH: Final = 4096


class Directories(Struct, frozen=True):
    """Where tanuki keeps its own files. Nothing is created by asking."""

    config: Path
    data: Path
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Directories":
        """``TANUKI_HOME`` holds all four, else the platform's own places (XDG on Linux).

        Raises SettingsError where nobody knows the home directory that is meant.
        """
        home = environ.get("TANUKI_HOME")
        try:
            if home:
                root = Path(home).expanduser()
                return cls(root / "config", root / "data", root / "state", root / "cache")
            dirs = platformdirs.PlatformDirs("tanuki", appauthor=False)
            return cls(dirs.user_config_path, dirs.user_data_path, dirs.user_state_path, dirs.user_cache_path)
        except RuntimeError as exc:
            raise SettingsError(
                _("The home directory of {path} is not known.").format(path=home or "~"),
                hint="export TANUKI_HOME=/path/to/tanuki",
            ) from exc

    @property
    def config_file(self) -> Path:
        """The settings file."""
        return self.config / "config.toml"

    @property
    def key_file(self) -> Path:
        """API keys of servers, one a line; users write it."""
        return self.config / "keys.toml"

    @property
    def personas(self) -> Path:
        """The folder of the texts that ``tanuki persona`` keeps."""
        return self.config / "personas"

    @property
    def history_file(self) -> Path:
        """The SQLite database of conversations."""
        return self.data / "history.sqlite3"

    @property
    def input_history_file(self) -> Path:
        """What was typed at the prompt of the chat."""
        return self.state / "input_history"


def load_settings(environ: Mapping[str, str], config_file: Path) -> Settings:
    """Apply config.toml and the environment over the defaults.

    Raises SettingsError that names the file with line and column, or the variable.
    """
    values = read_settings(config_file)
    for spec in SPECS:
        text = environ.get(spec.environment)
        if not text:
            continue
        try:
            values[spec.key] = parse_value(spec, text)
        except ValueError as exc:
            raise SettingsError(
                f"{spec.environment}: {exc}", hint=_("Change or unset {name}.").format(name=spec.environment)
            ) from exc
    return with_values(Settings(), values)


def with_values(settings: Settings, values: Mapping[str, object]) -> Settings:
    """``settings`` with the given keys replaced; None leaves a key as it is, others are not ours.

    Raises ValueError with a sentence that names the range.
    """
    given = {key: value for key, value in values.items() if value is not None}
    checked: dict[str, Any] = {
        key: check_value(SPEC_BY_KEY[key], value) for key, value in given.items() if key in SPEC_BY_KEY
    }
    if REMOTES_TABLE in given:
        checked[REMOTES_TABLE] = given[REMOTES_TABLE]
    chosen = {key: checked.pop(key) for key in SAMPLING_KEYS if key in checked}
    return replace(settings, sampling=replace(settings.sampling, **chosen), **checked)


def in_range(sampling: SamplingOptions) -> SamplingOptions:
    """``sampling``, which another version may have kept, with the default for what is out of range here."""
    wrong: dict[str, Any] = {}
    for key in SAMPLING_KEYS:
        spec, value = SPEC_BY_KEY[key], getattr(sampling, key)
        try:
            if value is not None:
                check_value(spec, value)
        except ValueError:
            wrong[key] = spec.default
    return replace(sampling, **wrong) if wrong else sampling

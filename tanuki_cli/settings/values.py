"""Settings: option, then environment (``TANUKI_<KEY>``), then config.toml, then default."""

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import platformdirs
import tomlkit
import tomlkit.exceptions

from tanuki_cli.errors import SettingsError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.specs import SPEC_BY_KEY, SPECS, Value, check_value, find_spec, parse_value

DEFAULT_CONTEXT_LENGTH: Final = 4096
REMOTES_TABLE: Final = "remotes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings after precedence was applied. None means: the program chooses."""

    model: str = "auto"
    lang: str | None = None
    system: str | None = None
    temperature: float = 0.5
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int | None = None
    context_length: int | None = None
    gpu_layers: int | None = None
    threads: int | None = None
    kv_type: str = "f16"
    compile: bool = False
    kv_cache_gib: int = 2
    speculation: bool = True
    tune: bool = True
    enter: str = "send"
    editing_mode: str = "emacs"
    theme: str = "auto"
    plain: bool = False
    save: bool = True
    offline: bool = False
    remotes: tuple[tuple[str, str], ...] = ()

    @property
    def sampling(self) -> SamplingOptions:
        """The part of the settings that chooses tokens."""
        return SamplingOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Directories:
    """Where tanuki keeps its own files. Nothing is created by asking."""

    config: Path
    data: Path
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Directories":
        """``TANUKI_HOME`` holds all four, else the platform's own places (XDG on Linux)."""
        if home := environ.get("TANUKI_HOME"):
            root = Path(home).expanduser()
            return cls(root / "config", root / "data", root / "state", root / "cache")
        dirs = platformdirs.PlatformDirs("tanuki", appauthor=False)
        return cls(dirs.user_config_path, dirs.user_data_path, dirs.user_state_path, dirs.user_cache_path)

    @property
    def config_file(self) -> Path:
        """The settings file."""
        return self.config / "config.toml"

    @property
    def key_file(self) -> Path:
        """API keys of servers, one a line; users write it."""
        return self.config / "keys.toml"

    @property
    def history_file(self) -> Path:
        """The SQLite database of conversations."""
        return self.data / "history.sqlite3"


def load_settings(environ: Mapping[str, str], config_file: Path) -> Settings:
    """Apply config.toml and the environment over the defaults.

    Raises SettingsError that names the file with line and column, or the variable.
    """
    settings = _from_table(read_config(config_file), config_file)
    changes: dict[str, Value] = {}
    for spec in SPECS:
        text = environ.get(spec.environment)
        if not text:
            continue
        try:
            changes[spec.key] = parse_value(spec, text)
        except ValueError as exc:
            raise SettingsError(
                f"{spec.environment}: {exc}", hint=_("Change or unset {name}.").format(name=spec.environment)
            ) from exc
    return with_values(settings, changes)


def with_values(settings: Settings, values: Mapping[str, object]) -> Settings:
    """``settings`` with the given keys replaced; None leaves a key as it is.

    Raises ValueError with a sentence that names the range.
    """
    known = {field.name for field in fields(Settings)}
    changes: dict[str, object] = {}
    for key, value in values.items():
        if value is None or key not in known:
            continue
        spec = SPEC_BY_KEY.get(key)
        changes[key] = check_value(spec, value) if spec else value
    return replace(settings, **changes)  # type: ignore[arg-type]  # checked against SPECS above


def read_config(path: Path) -> tomlkit.TOMLDocument:
    """Read config.toml; a missing file is an empty one. Raises SettingsError with line and column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return tomlkit.document()
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
    try:
        return tomlkit.parse(text)
    except tomlkit.exceptions.ParseError as exc:
        raise SettingsError(
            _("{path} is not valid TOML at line {line}, column {column}.").format(
                path=path, line=exc.line, column=exc.col + 1
            ),
            hint=_edit_hint(),
        ) from exc


def write_config(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Replace config.toml in one step; comments and order are kept. Raises SettingsError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tomlkit.dumps(document), encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
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


def _from_table(document: tomlkit.TOMLDocument, path: Path) -> Settings:
    values: dict[str, object] = {}
    for key, item in document.unwrap().items():
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
    return with_values(Settings(), values)


def _remotes(item: object, path: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(item, dict) or not all(isinstance(url, str) for url in item.values()):
        raise SettingsError(
            _('{path}: [remotes] must hold lines such as lab = "http://host:8000/v1".').format(path=path),
            hint=_edit_hint(),
        )
    return tuple((str(name), str(url)) for name, url in item.items())

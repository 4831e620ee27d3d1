"""Settings: option, then environment (``TANUKI_<KEY>``), then config.toml, then default."""

import contextlib
import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal, cast

import platformdirs
import tomlkit
import tomlkit.exceptions

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import N_, _
from tanuki_cli.sampling import MAX_SEED, SamplingOptions

Kind = Literal["text", "integer", "number", "boolean"]
Value = str | int | float | bool

DEFAULT_CONTEXT_LENGTH: Final = 4096
MAX_CONTEXT_LENGTH: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One key of config.toml: its kind, range (both ends included) and what it is for."""

    key: str
    kind: Kind
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        """The environment variable that overrides the config file."""
        return f"TANUKI_{self.key.upper()}"

    def describe_range(self) -> str:
        """The allowed values in words, e.g. ``0 to 2`` or ``send, newline``; empty if any text does."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind == "boolean":
            return "true, false"
        if self.minimum is None or self.maximum is None:
            return ""
        return _("{minimum} to {maximum}").format(minimum=self.minimum, maximum=self.maximum)


SPECS: Final[tuple[SettingSpec, ...]] = (
    SettingSpec(key="model", kind="text", help=N_("model used without -m")),
    SettingSpec(key="lang", kind="text", choices=("ja", "en"), help=N_("language of the messages")),
    SettingSpec(key="system", kind="text", help=N_("system text instead of the model's own")),
    SettingSpec(
        key="temperature",
        kind="number",
        minimum=0,
        maximum=2,
        help=N_("0 always takes the likeliest token; higher is more varied"),
    ),
    SettingSpec(
        key="top_p",
        kind="number",
        minimum=0,
        maximum=1,
        help=N_("choose among the tokens that make up this share of the probability; 1 is off"),
    ),
    SettingSpec(
        key="top_k",
        kind="integer",
        minimum=0,
        maximum=100000,
        help=N_("choose among this many tokens; 0 is off"),
    ),
    SettingSpec(
        key="min_p",
        kind="number",
        minimum=0,
        maximum=1,
        help=N_("leave out tokens less likely than this share of the best; 0 is off"),
    ),
    SettingSpec(
        key="repeat_penalty",
        kind="number",
        minimum=0.1,
        maximum=10,
        help=N_("make recent tokens less likely; 1 is off"),
    ),
    SettingSpec(
        key="max_new_tokens",
        kind="integer",
        minimum=1,
        maximum=MAX_CONTEXT_LENGTH,
        help=N_("longest answer in tokens"),
    ),
    SettingSpec(key="seed", kind="integer", minimum=0, maximum=MAX_SEED, help=N_("makes answers repeatable")),
    SettingSpec(
        key="context_length",
        kind="integer",
        minimum=128,
        maximum=MAX_CONTEXT_LENGTH,
        help=N_("tokens that prompt and answer share"),
    ),
    SettingSpec(
        key="gpu_layers",
        kind="integer",
        minimum=0,
        maximum=1000,
        help=N_("layers on the GPU; unset means as many as fit"),
    ),
    SettingSpec(
        key="threads",
        kind="integer",
        minimum=1,
        maximum=1024,
        help=N_("CPU threads; unset means the physical cores"),
    ),
    SettingSpec(key="kv_type", kind="text", choices=("f16", "q8_0"), help=N_("precision of the KV cache")),
    SettingSpec(key="enter", kind="text", choices=("send", "newline"), help=N_("what Enter does in a chat")),
    SettingSpec(key="editing_mode", kind="text", choices=("emacs", "vi"), help=N_("key bindings")),
    SettingSpec(
        key="theme", kind="text", choices=("auto", "dark", "light"), help=N_("colours of the answer")
    ),
    SettingSpec(key="plain", kind="boolean", help=N_("print answers without rendering Markdown")),
    SettingSpec(key="save", kind="boolean", help=N_("keep conversations in the history")),
    SettingSpec(key="offline", kind="boolean", help=N_("never touch the network for a model")),
)
SPEC_BY_KEY: Final = {spec.key: spec for spec in SPECS}
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
    def history_file(self) -> Path:
        """The SQLite database of conversations."""
        return self.data / "history.sqlite3"


def find_spec(key: str) -> SettingSpec:
    """The spec of ``key`` (``-`` and ``_`` are the same). Raises SettingsError with the nearest key."""
    normal = key.strip().lower().replace("-", "_")
    if normal in SPEC_BY_KEY:
        return SPEC_BY_KEY[normal]
    near = difflib.get_close_matches(normal, SPEC_BY_KEY, n=1)
    hint = _("Did you mean {key}?").format(key=near[0]) if near else "tanuki config list"
    raise SettingsError(_("There is no setting {key!r}.").format(key=key), hint=hint)


def parse_value(spec: SettingSpec, text: str) -> Value:
    """Read ``text``, as it stands in the environment or on a command line, as a value of ``spec``.

    Raises ValueError with a sentence that names the range.
    """
    value: Value
    try:
        if spec.kind == "boolean":
            value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                text.strip().lower()
            ]
        elif spec.kind == "integer":
            value = int(text)
        else:
            value = float(text) if spec.kind == "number" else text
    except (ValueError, KeyError) as exc:
        raise ValueError(_range_sentence(spec, text)) from exc
    return check_value(spec, value)


def check_value(spec: SettingSpec, value: object) -> Value:
    """Return ``value`` if its type and range fit ``spec``; integers pass for numbers.

    Raises ValueError with a sentence that names the range.
    """
    types: dict[Kind, tuple[type, ...]] = {
        "text": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
    }
    right_type = isinstance(value, types[spec.kind]) and (
        spec.kind == "boolean" or not isinstance(value, bool)
    )
    in_choices = not spec.choices or value in spec.choices
    if not right_type or not in_choices or not _in_range(spec, value):
        raise ValueError(_range_sentence(spec, value))
    if spec.kind == "number":
        return float(cast("float", value))
    return cast("Value", value)


def _in_range(spec: SettingSpec, value: object) -> bool:
    if not isinstance(value, (int, float)) or spec.minimum is None or spec.maximum is None:
        return True
    return math.isfinite(value) and spec.minimum <= value <= spec.maximum


def _range_sentence(spec: SettingSpec, value: object) -> str:
    allowed = spec.describe_range()
    if not allowed:
        return _("{key} cannot be {value!r}: it must be text.").format(key=spec.key, value=value)
    return _("{key} cannot be {value!r}: allowed is {allowed}.").format(
        key=spec.key, value=value, allowed=allowed
    )


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
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(
            _("{path} cannot be read: {reason}").format(path=path, reason=exc), hint=_edit_hint()
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
            _("{path} cannot be written: {reason}").format(path=path, reason=exc.strerror or exc),
            hint=_("Check the permissions and the free space of {path}.").format(path=path.parent),
        ) from exc


def _edit_hint() -> str:
    return "tanuki config edit"


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

"""The keys of config.toml with their kinds and ranges: one table for options, environment and file."""

import difflib
import math
from dataclasses import dataclass
from typing import Final, Literal, cast

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import N_, _
from tanuki_cli.sampling import MAX_SEED

Kind = Literal["text", "integer", "number", "boolean"]
Value = str | int | float | bool

MAX_CONTEXT_LENGTH: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One key of config.toml: its kind, range (both ends included), a ``usual`` number, what it is for."""

    key: str
    kind: Kind
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    usual: float | None = None

    @property
    def example(self) -> str:
        """A value that is allowed, as it is typed."""
        if self.choices:
            return self.choices[0]
        if self.kind == "boolean":
            return "true"
        return "TEXT" if self.usual is None else f"{self.usual:g}"

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
        usual=0.5,
        help=N_("0 always takes the likeliest token; higher is more varied"),
    ),
    SettingSpec(
        key="top_p",
        kind="number",
        minimum=0,
        maximum=1,
        usual=0.9,
        help=N_("choose among the tokens that make up this share of the probability; 1 is off"),
    ),
    SettingSpec(
        key="top_k",
        kind="integer",
        minimum=0,
        maximum=100000,
        usual=40,
        help=N_("choose among this many tokens; 0 is off"),
    ),
    SettingSpec(
        key="min_p",
        kind="number",
        minimum=0,
        maximum=1,
        usual=0.05,
        help=N_("leave out tokens less likely than this share of the best; 0 is off"),
    ),
    SettingSpec(
        key="repeat_penalty",
        kind="number",
        minimum=0.1,
        maximum=10,
        usual=1.1,
        help=N_("make recent tokens less likely; 1 is off"),
    ),
    SettingSpec(
        key="max_new_tokens",
        kind="integer",
        minimum=1,
        maximum=MAX_CONTEXT_LENGTH,
        usual=1024,
        help=N_("longest answer in tokens"),
    ),
    SettingSpec(
        key="seed", kind="integer", minimum=0, maximum=MAX_SEED, usual=1, help=N_("makes answers repeatable")
    ),
    SettingSpec(
        key="context_length",
        kind="integer",
        minimum=128,
        maximum=MAX_CONTEXT_LENGTH,
        usual=4096,
        help=N_("tokens that prompt and answer share"),
    ),
    SettingSpec(
        key="gpu_layers",
        kind="integer",
        minimum=0,
        maximum=1000,
        usual=32,
        help=N_("layers on the GPU; unset means as many as fit"),
    ),
    SettingSpec(
        key="threads",
        kind="integer",
        minimum=1,
        maximum=1024,
        usual=4,
        help=N_("CPU threads; unset means the physical cores"),
    ),
    SettingSpec(key="kv_type", kind="text", choices=("f16", "q8_0"), help=N_("precision of the KV cache")),
    SettingSpec(
        key="compile",
        kind="boolean",
        help=N_("compile safetensors models for the GPU: slow start, fast answers"),
    ),
    SettingSpec(
        key="kv_cache_gib",
        kind="integer",
        minimum=0,
        maximum=10000,
        usual=2,
        help=N_("GiB of disk that let a chat go on without reading its past again; 0 is off"),
    ),
    SettingSpec(
        key="speculation",
        kind="boolean",
        help=N_("guess tokens that repeat the text and check several at once; the answer is the same"),
    ),
    SettingSpec(
        key="tune",
        kind="boolean",
        help=N_("at the first load of a model, measure how it runs fastest here (at most 20 seconds)"),
    ),
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
        raise ValueError(range_sentence(spec, text)) from exc
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
        raise ValueError(range_sentence(spec, value))
    if spec.kind == "number":
        return float(cast("float", value))
    return cast("Value", value)


def _in_range(spec: SettingSpec, value: object) -> bool:
    if not isinstance(value, (int, float)) or spec.minimum is None or spec.maximum is None:
        return True
    return math.isfinite(value) and spec.minimum <= value <= spec.maximum


def range_sentence(spec: SettingSpec, value: object, *, name: str | None = None) -> str:
    """That ``value`` is not allowed, and what is; ``name`` is how the user wrote the key."""
    key = name or spec.key
    if spec.kind == "number" and isinstance(value, float) and value.is_integer():
        value = int(value)  # 9, as people write it
    allowed = spec.describe_range()
    if not allowed:
        return _("{key} cannot be {value!r}: it must be text.").format(key=key, value=value)
    return _("{key} cannot be {value!r}: allowed is {allowed}.").format(key=key, value=value, allowed=allowed)

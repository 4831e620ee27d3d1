"""What an option is, declared once: with the field that holds its value.

``temperature: Annotated[float, OptionSpec(help=…, minimum=0, maximum=2)] = 0.5`` in a Struct is all there
is to write. :func:`specs_of` reads such fields back, and from them come the command line, the environment,
config.toml, ``/set``, JSON and what a conversation keeps.
"""

import json
import math
import re
import unicodedata
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields, replace

from tanuki_cli.i18n import _

Kind = Literal["text", "texts", "integer", "number", "boolean"]
Value = str | int | float | bool | tuple[str, ...]
Scope = Literal[
    "output",
    "network",
    "memory",
    "model",
    "loading",
    "system",
    "persona",
    "conversation",
    "sampling",
    "answer",
    "prompt",
    "file",
]
"""Which commands take an option: all; those that may download; that reckon with a model's memory; that take
one model; that load it; that have a system prompt; a persona; that work in a conversation; that generate;
that print an answer; that have a prompt. ``file`` stands for none: the option is for config.toml."""

T = TypeVar("T")

_KINDS: Final[dict[Any, Kind]] = {
    str: "text",
    str | None: "text",
    tuple[str, ...]: "texts",
    int: "integer",
    int | None: "integer",
    float: "number",
    bool: "boolean",
}
_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_FOREVER: Final = ("forever", "-1")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)")
LONGEST_S: Final = 366 * 86400.0
_DASHES: Final = ("-", "－", "−", "ー")
_WORDS_FOR_DEFAULT: Final = frozenset(
    ("", "none", "null", "nil", "default", "auto", "unset", "reset", "なし", "無し", "既定", "デフォルト")
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class OptionSpec(Struct, frozen=True, kw_only=True):
    """What one option is for and what it takes.

    ``help`` is a message id: a sentence that is true on the command line and in config.toml. A range
    includes both ends; ``usual`` is a number within it, for examples. ``metavar`` and ``short`` are for the
    command line, and ``off_help`` for a switch that is on by default, where it is ``--no-KEY``. A text that
    ``is_name`` names something, and holds no blanks; who looks it up folds it.

    ``key``, ``kind`` and ``default`` come from the field, by :func:`specs_of`. A ``default`` of None means
    that the program chooses.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    usual: float | None = None
    scope: Scope = "file"
    metavar: str = "TEXT"
    short: str = ""
    off_help: str = ""
    duration: bool = False
    is_name: bool = False
    key: str = ""
    kind: Kind = "text"
    default: Value | None = None

    @property
    def example(self) -> str:
        """A value that is allowed, as it is typed."""
        if self.choices:
            return self.choices[0]
        if self.kind == "boolean":
            return "true"
        if self.duration:
            return "10m"
        return "TEXT" if self.usual is None else f"{self.usual:g}"

    @property
    def environment(self) -> str:
        """The environment variable that comes before the config file."""
        return f"TANUKI_{self.key.upper()}"

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--{'no-' if self.default is True else ''}{self.key.replace('_', '-')}"

    @property
    def short_range(self) -> str:
        """What the option takes, as ``--help`` shows it after its name."""
        if self.choices:
            return "|".join(self.choices)
        if self.minimum is None or self.maximum is None:
            return self.metavar
        return f"{self.minimum:.10g}-{self.maximum:.10g}"

    def describe_range(self) -> str:
        """The allowed values in words, e.g. ``0 to 2`` or ``send, newline``; empty if any text does."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind == "boolean":
            return "true, false"
        if self.duration:
            return _("times such as 90s, 10m, 2h, and forever")
        if self.minimum is None or self.maximum is None:
            return ""
        return _("{minimum} to {maximum}").format(minimum=self.minimum, maximum=self.maximum)


def specs_of(owner: type[Struct]) -> tuple[OptionSpec, ...]:
    """The options of ``owner`` in their order; those of a Struct within it in its place."""
    found: list[OptionSpec] = []
    for one in fields(owner):
        if isinstance(one.default, Struct):
            found += specs_of(type(one.default))
        elif get_origin(one.type) is Annotated:
            of_type, spec = get_args(one.type)
            found.append(replace(spec, key=one.name, kind=_KINDS[of_type], default=one.default))
    return tuple(found)


def fold(text: str) -> str:
    """``text`` as it is typed without an input method: half-width, without blanks around it."""
    return unicodedata.normalize("NFKC", text).strip()


def is_dash(text: str) -> bool:
    """Whether this is ``-``, which takes a value back, or what its key types in an input method."""
    return text.strip() in _DASHES


def asks_for_default(text: str) -> bool:
    """Whether ``text``, which is no value, is what people type for none, or for the usual one."""
    return is_dash(text) or fold(text).lower() in _WORDS_FOR_DEFAULT


def parse_value(spec: OptionSpec, text: str) -> Value:
    """Read ``text``, as it stands in the environment or on a command line, as a value of ``spec``.

    Full-width numbers and names are as good as half-width ones; free text stays as it is. Several texts are
    one JSON array, a single one may stand alone. Raises ValueError with a sentence that names the range.
    """
    value: object
    folded = fold(text).lower()
    try:
        if spec.kind == "boolean":
            value = _WORDS[folded]
        elif spec.kind == "integer":
            value = int(folded)
        elif spec.kind == "number":
            value = float(folded)
        elif spec.kind == "texts":
            value = _read_texts(text)
        else:
            value = folded if spec.choices else text
    except (ValueError, KeyError) as exc:
        raise ValueError(range_sentence(spec, text)) from exc
    if spec.choices and value not in spec.choices:
        value = text  # the sentence repeats what was typed
    return check_value(spec, value)


def format_value(value: Value | None) -> str:
    """``value`` as :func:`parse_value` takes it; empty where the program chooses."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return _write_texts(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read_texts(text: str) -> tuple[str, ...]:
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return (text,)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(found)
        raise ValueError(text)
    return (text,) if text else ()


def _write_texts(texts: tuple[str, ...]) -> str:
    if not texts:
        return ""
    plain = len(texts) == 1 and texts[0].isprintable() and _read_texts(texts[0]) == texts
    return texts[0] if plain else json.dumps(texts, ensure_ascii=False)


def check_value(spec: OptionSpec, value: object) -> Value:
    """Return ``value`` if its type and range fit ``spec``; integers pass for numbers, lists for tuples.

    Raises ValueError with a sentence that names the range.
    """
    types: dict[Kind, tuple[type, ...]] = {
        "text": (str,),
        "texts": (list, tuple),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
    }
    right_type = isinstance(value, types[spec.kind]) and (
        spec.kind == "boolean" or not isinstance(value, bool)
    )
    in_choices = not spec.choices or value in spec.choices
    if isinstance(value, str) and _SURROGATE.search(value):  # bytes of the command line that are no text
        right_type = False
    if spec.duration and isinstance(value, str) and parse_duration(value) is None:
        right_type = False
    if not right_type or not in_choices or not _in_range(spec, value):
        raise ValueError(range_sentence(spec, value))
    if spec.kind == "number":
        return float(cast("float", value))
    if spec.kind == "texts":
        texts = tuple(cast("list[object]", value))
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(range_sentence(spec, value))
        return cast("tuple[str, ...]", texts)
    return cast("Value", value)


def parse_duration(text: str) -> float | None:
    """Seconds, of ``90``, ``90s``, ``10m``, ``2h``, ``1d`` or ``forever``; None for what is no time."""
    folded = fold(text).lower()
    if folded in _FOREVER:
        return LONGEST_S
    match = _DURATION.fullmatch(folded)
    if match is None:
        return None
    seconds = float(int(match[1]) * _UNITS[match[2]])
    return seconds if seconds <= LONGEST_S else None


def _in_range(spec: OptionSpec, value: object) -> bool:
    if not isinstance(value, (int, float)) or spec.minimum is None or spec.maximum is None:
        return True
    return math.isfinite(value) and spec.minimum <= value <= spec.maximum


def within_range(spec: OptionSpec, value: Value) -> Value:
    """``value``, or the end of its range that is nearest to it; for values that nobody is asked about."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if spec.minimum is None or spec.maximum is None or _in_range(spec, value):
        return value
    nearest = spec.minimum if value < spec.minimum else spec.maximum
    return int(nearest) if spec.kind == "integer" else float(nearest)


def range_sentence(spec: OptionSpec, value: object, *, name: str | None = None) -> str:
    """That ``value`` is not allowed, and what is; ``name`` is how the user wrote the key."""
    key = name or spec.key
    if spec.kind == "number" and isinstance(value, float) and value.is_integer():
        value = int(value)  # 9, as people write it
    allowed = spec.describe_range()
    if spec.kind == "texts":
        return _("{key} cannot be {value!r}: it must be a list of texts.").format(key=key, value=value)
    if not allowed:
        return _("{key} cannot be {value!r}: it must be text.").format(key=key, value=value)
    return _("{key} cannot be {value!r}: allowed is {allowed}.").format(key=key, value=value, allowed=allowed)

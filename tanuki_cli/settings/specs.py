"""The settings: every option of the program with its kind, range, default and help, declared here.

Those that choose tokens are declared in :mod:`tanuki_cli.sampling`, because engines need nothing else.
"""

from dataclasses import dataclass
from typing import Final, cast

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec, Value, fold, option, specs_of
from tanuki_cli.sampling import MAX_CONTEXT_LENGTH, SAMPLING_SPECS, SamplingOptions
from tanuki_cli.text.suggestions import suggest

_SAMPLING: Final = SamplingOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings after precedence was applied. None means: the program chooses."""

    model: str = option(
        "auto",
        OptionSpec(
            help=N_("Model: tanuki-8b:q4_k_m, mame, ./file.gguf, http://…"),
            scope="model",
            metavar="MODEL",
            short="-m",
            is_name=True,
        ),
    )
    lang: str | None = option(
        None, OptionSpec(help=N_("Language of the messages."), choices=("ja", "en"), scope="output")
    )
    system: str | None = option(
        None,
        OptionSpec(help=N_("System prompt instead of the model's own."), scope="system", short="-s"),
    )
    persona: str | None = option(
        None,
        OptionSpec(
            help=N_("Persona of a new conversation: its text goes before every question."),
            scope="persona",
            metavar="NAME",
            is_name=True,
        ),
    )
    sampling: SamplingOptions = _SAMPLING
    context_length: int | None = option(
        None,
        OptionSpec(
            help=N_("Tokens that prompt and answer share."),
            minimum=128,
            maximum=MAX_CONTEXT_LENGTH,
            usual=4096,
            scope="memory",
        ),
    )
    gpu_layers: int | None = option(
        None,
        OptionSpec(
            help=N_("Layers on the GPU; as many as fit by default."),
            minimum=0,
            maximum=1000,
            usual=32,
            scope="memory",
        ),
    )
    engine: str = option(
        "auto",
        OptionSpec(
            help=N_(
                "What computes GGUF models. ik is a fork of llama.cpp with kernels of its own for CPUs, auto "
                "takes it where it is installed and was measured to be faster."
            ),
            choices=("auto", "llama.cpp", "ik"),
            scope="loading",
        ),
    )
    threads: int | None = option(
        None,
        OptionSpec(help=N_("CPU threads; the physical cores by default."), minimum=1, maximum=1024, usual=4),
    )
    kv_type: str = option(
        "f16", OptionSpec(help=N_("Precision of the KV cache."), choices=("f16", "q8_0"), scope="memory")
    )
    compile: bool = option(
        False,
        OptionSpec(
            help=N_("Compile a safetensors model for the GPU: slow start, fast answers."), scope="loading"
        ),
    )
    kv_cache_gib: int = option(
        2,
        OptionSpec(
            help=N_("GiB of disk that let a chat go on without reading its past again; 0 is off."),
            minimum=0,
            maximum=10000,
            usual=2,
        ),
    )
    speculation: bool = option(
        True,
        OptionSpec(
            help=N_(
                "Guess tokens that repeat the text and check several at once; at temperature 0 the answer is "
                "the same, above it rounding may change a draw."
            )
        ),
    )
    tune: bool = option(
        True,
        OptionSpec(
            help=N_(
                "At the first load, measure how a model runs fastest here (at most 10 seconds; 60 with ik)."
            )
        ),
    )
    enter: str = option(
        "send",
        OptionSpec(
            help=N_("What Enter does; Alt-Enter does the other."), choices=("send", "newline"), scope="prompt"
        ),
    )
    editing_mode: str = option(
        "emacs", OptionSpec(help=N_("Key bindings."), choices=("emacs", "vi"), scope="prompt")
    )
    theme: str = option(
        "auto", OptionSpec(help=N_("Colours of the answer."), choices=("auto", "dark", "light"))
    )
    plain: bool = option(
        False, OptionSpec(help=N_("Print the answer without rendering Markdown."), scope="answer")
    )
    save: bool = option(
        True,
        OptionSpec(
            help=N_("Keep conversations in the history."),
            off_help=N_("Keep nothing in the history."),
            scope="conversation",
        ),
    )
    keep_alive: str = option(
        "0",
        OptionSpec(
            help=N_(
                "Let ask and chat keep the model loaded for so long after the last use: 10m, 2h; 0 is off."
            ),
            metavar="TIME",
            duration=True,
        ),
    )
    offline: bool = option(
        False, OptionSpec(help=N_("Never touch the network for a model."), scope="network")
    )
    remotes: tuple[tuple[str, str], ...] = ()


SPECS: Final = specs_of(Settings)
SPEC_BY_KEY: Final = {spec.key: spec for spec in SPECS}
SAMPLING_KEYS: Final = tuple(spec.key for spec in SAMPLING_SPECS)


def find_spec(key: str, *, all_keys: str = "tanuki config list") -> OptionSpec:
    """The spec of ``key``; ``-`` and ``_``, full-width and half-width are the same.

    Raises SettingsError with the nearest key, or with the command that lists ``all_keys``.
    """
    normal = fold(key).lower().replace("-", "_")
    if normal in SPEC_BY_KEY:
        return SPEC_BY_KEY[normal]
    near = suggest(normal, SPEC_BY_KEY)
    hint = _("Did you mean {key}?").format(key=near) if near else all_keys
    raise SettingsError(_("There is no setting {key!r}.").format(key=key), hint=hint)


def value_of(settings: Settings, spec: OptionSpec) -> Value | None:
    """What ``settings`` hold for ``spec``."""
    owner = settings.sampling if spec.key in SAMPLING_KEYS else settings
    return cast("Value | None", getattr(owner, spec.key))

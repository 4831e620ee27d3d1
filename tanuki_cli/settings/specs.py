"""The settings: every option of the program with its kind, range, default and help, declared here.

Those that choose tokens are declared in :mod:`tanuki_cli.sampling`, because engines need nothing else.
"""

from typing import Annotated, Final, cast

from msgspec import Struct

from tanuki_cli.errors import SettingsError
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec, Value, fold, specs_of
from tanuki_cli.sampling import MAX_CONTEXT_LENGTH, SAMPLING_SPECS, SamplingOptions
from tanuki_cli.text.suggestions import suggest

_SAMPLING: Final = SamplingOptions()


class Settings(Struct, frozen=True, kw_only=True):
    """All settings after precedence was applied. None means: the program chooses."""

    model: Annotated[
        str,
        OptionSpec(
            help=N_("Model: tanuki-8b:q4_k_m, mame, ./file.gguf, http://…"),
            scope="model",
            metavar="MODEL",
            short="-m",
            is_name=True,
        ),
    ] = "auto"
    lang: Annotated[
        str | None, OptionSpec(help=N_("Language of the messages."), choices=("ja", "en"), scope="output")
    ] = None
    system: Annotated[
        str | None,
        OptionSpec(help=N_("System prompt instead of the model's own."), scope="system", short="-s"),
    ] = None
    persona: Annotated[
        str | None,
        OptionSpec(
            help=N_("Persona of a new conversation: its text goes before every question."),
            scope="persona",
            metavar="NAME",
            is_name=True,
        ),
    ] = None
    sampling: SamplingOptions = _SAMPLING
    context_length: Annotated[
        int | None,
        OptionSpec(
            help=N_("Tokens that prompt and answer share."),
            minimum=128,
            maximum=MAX_CONTEXT_LENGTH,
            usual=4096,
            scope="memory",
        ),
    ] = None
    gpu_layers: Annotated[
        int | None,
        OptionSpec(
            help=N_("Layers on the GPU; as many as fit by default."),
            minimum=0,
            maximum=1000,
            usual=32,
            scope="memory",
        ),
    ] = None
    engine: Annotated[
        str,
        OptionSpec(
            help=N_(
                "What computes GGUF models. ik is a fork of llama.cpp with kernels of its own for CPUs, auto "
                "takes it where it is installed and was measured to be faster."
            ),
            choices=("auto", "llama.cpp", "ik"),
            scope="loading",
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        OptionSpec(help=N_("CPU threads; the physical cores by default."), minimum=1, maximum=1024, usual=4),
    ] = None
    kv_type: Annotated[
        str, OptionSpec(help=N_("Precision of the KV cache."), choices=("f16", "q8_0"), scope="memory")
    ] = "f16"
    compile: Annotated[
        bool,
        OptionSpec(
            help=N_("Compile a safetensors model for the GPU: slow start, fast answers."), scope="loading"
        ),
    ] = False
    kv_cache_gib: Annotated[
        int,
        OptionSpec(
            help=N_("GiB of disk that let a chat go on without reading its past again; 0 is off."),
            minimum=0,
            maximum=10000,
            usual=2,
        ),
    ] = 2
    speculation: Annotated[
        bool,
        OptionSpec(
            help=N_(
                "Guess tokens that repeat the text and check several at once; at temperature 0 the answer is "
                "the same, above it rounding may change a draw."
            )
        ),
    ] = True
    tune: Annotated[
        bool,
        OptionSpec(
            help=N_(
                "At the first load, measure how a model runs fastest here (at most 10 seconds; 60 with ik)."
            )
        ),
    ] = True
    enter: Annotated[
        str,
        OptionSpec(
            help=N_("What Enter does; Alt-Enter does the other."), choices=("send", "newline"), scope="prompt"
        ),
    ] = "send"
    editing_mode: Annotated[
        str, OptionSpec(help=N_("Key bindings."), choices=("emacs", "vi"), scope="prompt")
    ] = "emacs"
    theme: Annotated[
        str, OptionSpec(help=N_("Colours of the answer."), choices=("auto", "dark", "light"))
    ] = "auto"
    plain: Annotated[
        bool, OptionSpec(help=N_("Print the answer without rendering Markdown."), scope="answer")
    ] = False
    save: Annotated[
        bool,
        OptionSpec(
            help=N_("Keep conversations in the history."),
            off_help=N_("Keep nothing in the history."),
            scope="conversation",
        ),
    ] = True
    keep_alive: Annotated[
        str,
        OptionSpec(
            help=N_(
                "Let ask and chat keep the model loaded for so long after the last use: 10m, 2h; 0 is off."
            ),
            metavar="TIME",
            duration=True,
        ),
    ] = "0"
    offline: Annotated[bool, OptionSpec(help=N_("Never touch the network for a model."), scope="network")] = (
        False
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

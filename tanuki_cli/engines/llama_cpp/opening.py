"""A GGUF model as an engine: its header, its tokenizer, its caches, and then its weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import ne
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tanuki_cli.catalog import TANUKI_8B, LocalModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, model_facts
from tanuki_cli.engines.llama_cpp.gguf import GgufFile, read_gguf
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, kv_folder
from tanuki_cli.engines.llama_cpp.repacked import repacked_folder
from tanuki_cli.engines.llama_cpp.tuning import Tuner, tuning_store
from tanuki_cli.engines.llama_cpp.vocabulary import tokenizer_from_metadata
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import LLAMA_CPP, missing, pip_install, rebuild_llama_cpp
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer
from tanuki_cli.tokenizer.file import made_here, read_tokenizer_file

_MOST_COUNTED: Final = 100_000
_MOST_DIFFERENT_PIECES: Final = 0.01
"""Share of pieces that may be spelled otherwise: converters rename a few control pieces."""

_SAMPLE: Final = (
    Message("user", "信楽焼のたぬきについて教えてください。"),
    Message("assistant", "信楽焼のたぬきは、滋賀県の信楽で作られる焼き物です。"),
    Message("user", "もっと詳しく教えて。"),
)
"""About 60 tokens, for measurements."""


def open_gguf(target: LocalModel, settings: Settings, options: OpenOptions) -> LocalEngine:
    """Load a GGUF file on llama.cpp. Raises EngineError."""
    with _importing():
        from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp

    gguf = read_gguf(target.path)
    target = replace(target, path=gguf.path)  # the first part of a model that was split
    facts = model_facts(gguf)
    tokenizer = gguf_tokenizer(target, gguf, facts)
    verify_tokenizer(tokenizer)
    longest_answer = settings.sampling.max_new_tokens
    model = load_llama_cpp(
        target,
        settings,
        debug=options.debug,
        facts=facts,
        kv_store=_kv_store(target, settings, options.cache_folder),
        head_ids=_head_ids(tokenizer),
        first_tokens=_first_tokens(tokenizer, options.first, longest_answer),
        tuner=_tuner(options, tokenizer),
        copies=repacked_folder(options.cache_folder) if options.cache_folder else None,
    )
    return LocalEngine(model, tokenizer, get_again=target.get_again, parallel=model.parallel)


def read_tokenizer(target: LocalModel) -> ChatTokenizer:
    """The exact tokenizer of a GGUF file, without its weights. Raises EngineError."""
    gguf = read_gguf(target.path)
    return gguf_tokenizer(target, gguf, model_facts(gguf))


@contextmanager
def _importing() -> Iterator[None]:
    """For the import of what runs GGUF. Raises EngineError where llama.cpp is missing or broken."""
    if missing(["llama_cpp"]):
        raise EngineError(_("llama.cpp is not installed."), hint=pip_install(LLAMA_CPP))
    try:
        yield
    # What llama_cpp makes of a library that is not there, or was built for another machine.
    except (ImportError, OSError, RuntimeError, AttributeError) as exc:
        raise EngineError(
            _("llama.cpp cannot be loaded: {reason}").format(reason=exc),
            hint=rebuild_llama_cpp(""),
        ) from exc


def _tuner(options: OpenOptions, tokenizer: ChatTokenizer) -> Tuner | None:
    if options.cache_folder is None:
        return None
    tuner = Tuner(
        store=tuning_store(options.cache_folder),
        use=options.use,
        announce=options.announce_tuning,
        text=lambda: tokenizer.encode_chat(_SAMPLE),
    )
    if options.report_trial is None:
        return tuner
    announce = options.announce_tuning or (lambda _seconds: None)
    return replace(tuner, announce=announce, report=options.report_trial, again=True)


def _head_ids(tokenizer: ChatTokenizer) -> list[int]:
    """What the prompts of all conversations without a system prompt of their own begin with."""
    first, second = (tokenizer.encode_chat([Message("user", text)]) for text in ("あ", "A"))
    return first[: shared_prefix(first, second)]


def _first_tokens(tokenizer: ChatTokenizer, messages: Sequence[Message], longest_answer: int) -> int | None:
    """What the first prompt and its answer take; None where nobody knows, or it is hardly going to fit."""
    if not messages or sum(len(message.content) for message in messages) > _MOST_COUNTED:
        return None
    return len(tokenizer.encode_chat(messages)) + longest_answer


def _kv_store(target: LocalModel, settings: Settings, cache_folder: Path | None) -> KvStore | None:
    """None where nothing may be kept, and for the practice model, which reads faster than a disk."""
    if cache_folder is None or target.practice or not settings.save or settings.kv_cache_gib == 0:
        return None
    return KvStore(kv_folder(cache_folder), max_bytes=settings.kv_cache_gib << 30)


def gguf_tokenizer(target: LocalModel, gguf: GgufFile, facts: ModelFacts) -> ChatTokenizer:
    """The exact tokenizer of a GGUF: the tokenizer.json beside it, its own metadata, or the reference.

    The official files hold placeholder scores, so that only the reference repository's tokenizer.json
    is right for them. Raises EngineError if there is none, or if its pieces are not the file's.
    """
    own = None if target.tokenizer else tokenizer_from_metadata(gguf.metadata)
    path = target.tokenizer or target.reference_tokenizer
    if own is not None:
        source = made_here(own)
    elif path is not None:
        source = read_tokenizer_file(path)
    else:
        raise EngineError(
            _("{path} has no usable tokenizer of its own.").format(path=target.path),
            hint=_("Put the model's tokenizer.json beside it, or fetch Tanuki's: {command}").format(
                command=TANUKI_8B.tokenizer_command
            ),
        )
    tokenizer = ChatTokenizer(source, bos_id=facts.bos_id, eos_id=facts.eos_id, vocab_size=facts.n_vocab)
    pieces = gguf.metadata.get("tokenizer.ggml.tokens")
    if isinstance(pieces, list) and not _same_pieces(tokenizer, list(map(str, pieces))):
        raise EngineError(
            _("The tokenizer's pieces are not those of {path}.").format(path=target.path),
            hint=_("Put the model's own tokenizer.json beside it."),
        )
    return tokenizer


def _same_pieces(tokenizer: ChatTokenizer, pieces: Sequence[str]) -> bool:
    count = len(tokenizer.pieces)
    if len(pieces) < count:
        return False
    different: int = sum(map(ne, map(tokenizer.pieces.get, pieces[:count]), range(count)))
    return different <= _MOST_DIFFERENT_PIECES * count

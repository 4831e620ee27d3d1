"""Where text becomes tokens and back."""

from collections.abc import Iterable, Iterator, Sequence
from operator import ne
from pathlib import Path

from tanuki_cli.catalog import LocalModel, RemoteModel, Target
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.llama_cpp.facts import ModelFacts, model_facts
from tanuki_cli.engines.llama_cpp.gguf import GgufFile, read_gguf
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, shared_prefix
from tanuki_cli.engines.llama_cpp.tuning import Tuner
from tanuki_cli.engines.llama_cpp.vocabulary import tokenizer_from_metadata
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.engines.requirements import importing_llama_cpp, importing_transformers
from tanuki_cli.engines.transformers.checkpoint import read_checkpoint
from tanuki_cli.engines.transformers.consent import Consent, never
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer

__all__ = ["open_engine"]


def open_engine(
    target: Target,
    settings: Settings,
    *,
    api_key: ApiKey | None = None,
    served_tokenizers: Sequence[Path] = (),
    consent: Consent = never,
    kv_folder: Path | None = None,
    tuner: Tuner | None = None,
    first: Sequence[Message] = (),
    debug: bool = False,
) -> Engine:
    """Load ``target`` on the engine for its format. Backends are imported only here, when used.

    ``api_key`` and ``served_tokenizers`` (tokenizer.json files, tried in turn, to send exact ids to a
    server that takes them) are for remote models. ``consent`` is asked before code that came with a
    checkpoint is run. ``kv_folder`` keeps KV caches between processes, unless the settings say to
    keep nothing. ``tuner`` knows, or measures, how llama.cpp runs best here. ``first`` are the messages
    to be answered first, where they are known and likely the only ones: memory for more is then taken
    only when it is needed. ``debug`` lets the backend's own log through.

    Raises EngineError or RemoteError.
    """
    if isinstance(target, RemoteModel):
        return _open_remote(target, settings, api_key, served_tokenizers)
    if target.format == "gguf":
        return _open_gguf(target, settings, kv_folder=kv_folder, tuner=tuner, first=first, debug=debug)
    return _open_checkpoint(target, settings, debug=debug, consent=consent)


def _open_gguf(
    target: LocalModel,
    settings: Settings,
    *,
    kv_folder: Path | None,
    tuner: Tuner | None,
    first: Sequence[Message],
    debug: bool,
) -> Engine:
    with importing_llama_cpp():
        from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp

    gguf = read_gguf(target.path)
    tokenizer = gguf_tokenizer(target, gguf, model_facts(gguf))
    verify_tokenizer(tokenizer)
    longest_answer = settings.sampling.max_new_tokens
    model = load_llama_cpp(
        target,
        settings,
        debug=debug,
        gguf=gguf,
        kv_store=_kv_store(target, settings, kv_folder),
        head_ids=_head_ids(tokenizer),
        first_tokens=len(tokenizer.encode_chat(first)) + longest_answer if first else None,
        tuner=tuner,
    )
    return LocalEngine(model, tokenizer)


def _head_ids(tokenizer: ChatTokenizer) -> list[int]:
    """What the prompts of all conversations without a system text of their own begin with."""
    first, second = (tokenizer.encode_chat([Message("user", text)]) for text in ("あ", "A"))
    return first[: shared_prefix(first, second)]


def _kv_store(target: LocalModel, settings: Settings, folder: Path | None) -> KvStore | None:
    """None where nothing may be kept, and for the practice model, which reads faster than a disk."""
    if folder is None or target.practice or not settings.save or settings.kv_cache_gib == 0:
        return None
    return KvStore(folder, max_bytes=settings.kv_cache_gib << 30)


def gguf_tokenizer(target: LocalModel, gguf: GgufFile, facts: ModelFacts) -> ChatTokenizer:
    """The exact tokenizer of a GGUF: the tokenizer.json beside it, its own metadata, or the reference.

    The official files hold placeholder scores, so that only the reference repository's tokenizer.json
    is right for them. Raises EngineError if there is none, or if its pieces are not the file's.
    """
    ids = {"bos_id": facts.bos_id, "eos_id": facts.eos_id, "vocab_size": facts.n_vocab}
    if target.tokenizer is not None:
        tokenizer = ChatTokenizer.from_file(target.tokenizer, **ids)
    elif (own := tokenizer_from_metadata(gguf.metadata)) is not None:
        tokenizer = ChatTokenizer(own, **ids)
    elif target.reference_tokenizer is not None:
        tokenizer = ChatTokenizer.from_file(target.reference_tokenizer, **ids)
    else:
        raise EngineError(
            _("{path} has no usable tokenizer of its own.").format(path=target.path),
            hint=_("Put the model's tokenizer.json beside it, or fetch Tanuki's: tanuki pull tanuki-8b"),
        )
    pieces = gguf.metadata.get("tokenizer.ggml.tokens")
    if isinstance(pieces, list) and not _same_pieces(tokenizer, list(map(str, pieces))):
        raise EngineError(
            _("The tokenizer's pieces are not those of {path}.").format(path=target.path),
            hint=_("Put the model's own tokenizer.json beside it."),
        )
    return tokenizer


_MOST_DIFFERENT_PIECES = 0.01
"""Share of pieces that may be spelled otherwise: converters rename a few control pieces."""


def _same_pieces(tokenizer: ChatTokenizer, pieces: Sequence[str]) -> bool:
    count = len(tokenizer.pieces)
    if len(pieces) < count:
        return False
    different: int = sum(map(ne, map(tokenizer.pieces.get, pieces[:count]), range(count)))
    return different <= _MOST_DIFFERENT_PIECES * count


def _open_checkpoint(target: LocalModel, settings: Settings, *, debug: bool, consent: Consent) -> Engine:
    checkpoint = read_checkpoint(target.path)
    tokenizer = ChatTokenizer.from_file(
        target.tokenizer or target.path / "tokenizer.json",
        bos_id=checkpoint.bos_id,
        eos_id=checkpoint.eos_id,
        vocab_size=checkpoint.vocab_size,
    )
    verify_tokenizer(tokenizer)
    with importing_transformers(checkpoint.quantization.method if checkpoint.quantization else None):
        from tanuki_cli.engines.transformers.loader import load_transformers
    model = load_transformers(target, settings, debug=debug, checkpoint=checkpoint, consent=consent)
    return LocalEngine(model, tokenizer)


def _open_remote(
    target: RemoteModel, settings: Settings, api_key: ApiKey | None, served_tokenizers: Iterable[Path]
) -> Engine:
    from tanuki_cli.engines.remote.engine import RemoteEngine

    return RemoteEngine(
        target,
        tokenizers=_read_tokenizers(served_tokenizers),
        api_key=api_key,
        context_length=settings.context_length,
    )


def _read_tokenizers(paths: Iterable[Path]) -> Iterator[ChatTokenizer]:
    for path in paths:
        tokenizer = ChatTokenizer.from_reference(path)
        verify_tokenizer(tokenizer)
        yield tokenizer

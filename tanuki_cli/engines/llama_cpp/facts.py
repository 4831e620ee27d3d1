"""What must be known of a GGUF model before it is loaded, and which models are refused."""

from collections.abc import Sequence
from itertools import chain
from math import gcd
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.admission import Geometry, check_settings, check_tensors, nbytes
from tanuki_cli.engines.llama_cpp.gguf import GgufFile, damaged
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.i18n import _

ARCHITECTURE: Final = "llama"
_LAYER_PREFIX: Final = "blk."
_EMBEDDING: Final = "token_embd.weight"


class ModelFacts(Struct, frozen=True, kw_only=True):
    """The shape of a model and the size of its parts.

    ``n_vocab`` counts the rows of the embedding, ``n_ctx_train`` the positions it was made for;
    ``head_dim`` is one head's width in the KV cache. Sizes are bytes in the file: ``layer_bytes``
    one entry per layer, ``output_bytes`` the output matrix and norm, ``embedding_bytes`` the input
    embedding. Where input and output share one matrix, both name its size. ``full_precision`` files
    hold float32 weights. The rows of every matrix, and of every head in it, are a multiple of
    ``row_groups``. ``has_empty_arrays`` among its metadata.
    """

    architecture: str
    name: str
    bos_id: int
    eos_id: int
    n_vocab: int
    n_ctx_train: int
    n_layer: int
    n_embd: int
    n_head: int
    n_kv_head: int
    head_dim: int
    layer_bytes: tuple[int, ...]
    embedding_bytes: int
    output_bytes: int
    file_bytes: int
    full_precision: bool
    row_groups: int
    has_empty_arrays: bool


def model_facts(gguf: GgufFile) -> ModelFacts:
    """The facts of ``gguf``.

    Raises EngineError for a model that is not of Tanuki's kind, and for one whose facts contradict
    each other.
    """
    _refuse_foreign(gguf)
    check_settings(gguf)
    numbers = _Numbers(gguf)
    numbers.check_epsilon("llama.attention.layer_norm_rms_epsilon")
    geometry = _geometry(gguf, numbers)
    check_tensors(gguf, geometry)
    layer_bytes, embedding_bytes, output_bytes = _part_sizes(gguf, geometry.n_layer)
    return ModelFacts(
        architecture=ARCHITECTURE,
        name=brief(gguf.metadata.get("general.name", gguf.path.stem)),
        bos_id=numbers.below("tokenizer.ggml.bos_token_id", 1, geometry.n_vocab),
        eos_id=numbers.below("tokenizer.ggml.eos_token_id", 2, geometry.n_vocab),
        n_vocab=geometry.n_vocab,
        n_ctx_train=numbers.positive("llama.context_length"),
        n_layer=geometry.n_layer,
        n_embd=geometry.n_embd,
        n_head=geometry.n_head,
        n_kv_head=geometry.n_kv_head,
        head_dim=geometry.head_dim,
        layer_bytes=layer_bytes,
        embedding_bytes=embedding_bytes,
        output_bytes=output_bytes,
        file_bytes=sum(nbytes(tensor) for tensor in chain.from_iterable(gguf.tensors)),
        full_precision=gguf.metadata.get("general.file_type") == 0,
        row_groups=gcd(geometry.n_vocab, geometry.n_embd, geometry.n_ff, geometry.head_dim),
        has_empty_arrays=[] in gguf.metadata.values(),
    )


def _refuse_foreign(gguf: GgufFile) -> None:
    metadata, path = gguf.metadata, gguf.path
    architecture = metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise EngineError(
            _("{path} holds a model of the kind {architecture!r}; Tanuki is of the kind 'llama'.").format(
                path=path, architecture=brief(architecture)
            ),
            hint=_("See which models are there: tanuki models"),
        )
    if metadata.get("llama.expert_count", 0):
        raise EngineError(
            _(
                "{path} is a mixture-of-experts model such as Tanuki-8x8B: llama.cpp does not know its "
                "router and would silently give wrong answers."
            ).format(path=path),
            hint=_(
                "Use a server built from the vLLM fork (-m http://host:8000/v1), or the original weights: "
                "tanuki chat -m tanuki-8x8b:awq --trust-remote-code"
            ),
        )


def _geometry(gguf: GgufFile, numbers: "_Numbers") -> Geometry:
    """The numbers of the model, which must agree with each other and with its vocabulary."""
    n_embd = numbers.positive("llama.embedding_length")
    n_head = numbers.positive("llama.attention.head_count")
    head_dim = numbers.positive("llama.attention.key_length", n_embd // n_head)
    embeddings = (tensor for tensor in chain.from_iterable(gguf.tensors) if tensor.name == _EMBEDDING)
    geometry = Geometry(
        n_vocab=next((tensor.shape[1] for tensor in embeddings if len(tensor.shape) > 1), 0),
        n_embd=n_embd,
        n_ff=numbers.positive("llama.feed_forward_length"),
        n_layer=numbers.positive("llama.block_count"),
        n_head=n_head,
        n_kv_head=numbers.positive("llama.attention.head_count_kv", n_head),
        head_dim=head_dim,
    )
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    consistent = (
        0 < geometry.n_vocab < 2**31
        and (not isinstance(tokens, list) or _are_pieces(tokens, geometry.n_vocab))
        and n_embd % n_head == 0
        and n_head % geometry.n_kv_head == 0
        and head_dim % 2 == 0  # positions turn pairs of numbers
        and numbers.positive("llama.attention.value_length", head_dim) == head_dim
        and numbers.positive("llama.rope.dimension_count", head_dim) == head_dim
    )
    if not consistent:
        raise damaged(gguf.path, _("its sizes contradict each other"))
    return geometry


def _part_sizes(gguf: GgufFile, n_layer: int) -> tuple[tuple[int, ...], int, int]:
    layers = [0] * n_layer
    embedding = output = 0
    tied = True
    for tensor in chain.from_iterable(gguf.tensors):
        size = nbytes(tensor)
        if tensor.name.startswith(_LAYER_PREFIX):
            layers[int(tensor.name.split(".")[1])] += size
        elif tensor.name == _EMBEDDING:
            embedding = size
        else:
            output += size
            tied = tied and tensor.name != "output.weight"
    return tuple(layers), embedding, output + (embedding if tied else 0)


def _are_pieces(tokens: Sequence[object], count: int) -> bool:
    """All there and all different, also for C, to which a NUL ends a text."""
    return len(tokens) == len(set(tokens)) == count and not any("\0" in str(token) for token in tokens)


class _Numbers:
    """Whole numbers out of the metadata, within the limits that keep native code safe."""

    def __init__(self, gguf: GgufFile) -> None:
        self._metadata = gguf.metadata
        self._path = gguf.path

    def positive(self, key: str, default: int = 0) -> int:
        value = self._metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise damaged(self._path, _("{key} is missing or impossible").format(key=key))
        return value

    def below(self, key: str, default: int, limit: int) -> int:
        value = self._metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            raise damaged(self._path, _("{key} is missing or impossible").format(key=key))
        return value

    def check_epsilon(self, key: str) -> None:
        value = self._metadata.get(key)
        if not isinstance(value, float) or not 0 < value < 1:
            raise damaged(self._path, _("{key} is missing or impossible").format(key=key))


def without_vocabulary(facts: ModelFacts) -> dict[str, int | str]:
    """Metadata that keeps llama.cpp from reading the vocabulary.

    Its tokenizer is never asked, and reading 65,000 pieces for it takes a quarter of the time of loading.
    """
    return {"tokenizer.ggml.model": "no_vocab", f"{facts.architecture}.vocab_size": facts.n_vocab}

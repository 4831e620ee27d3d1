"""Which GGUF files llama.cpp may see: those that are as a model of Tanuki's kind is, and no others.

llama.cpp checks much of a file, but not all: a weight in a type that an operation does not know, more
layers than its tables hold, or experts in use where there are none end the process by a signal. So a file
is held against what is allowed, name by name: the settings that the loader reads, with their types and
ranges, and the tensors of the architecture, each with its one shape and the types that its operation
takes. What is not on a list is refused, whatever it would do.

Keys outside the namespaces that llama.cpp reads for this architecture may hold anything: tools leave
notes of their own there. Its tokenizer's are overridden when it is loaded (see ``without_vocabulary``).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.gguf import (
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT16,
    UINT32,
    GgufFile,
    GgufTensor,
    GgufValue,
    damaged,
)
from tanuki_cli.errors import brief
from tanuki_cli.i18n import _

MAX_LAYERS: Final = 512
"""llama.cpp's tables hold so many."""
_MAX_WIDTH: Final = 1 << 20
_MAX_CONTEXT: Final = 1 << 24
_ALIGNMENTS: Final = tuple(32 << shift for shift in range(12))
"""The CPU's buffers want at least 32."""


class TensorKind(Struct, frozen=True, kw_only=True):
    """A type of ggml: ``size`` bytes for every ``block`` values."""

    name: str
    block: int
    size: int


_F32: Final = 0
KINDS: Final[Mapping[int, TensorKind]] = {
    number: TensorKind(name=name, block=block, size=size)
    for number, name, block, size in (
        (_F32, "F32", 1, 4), (1, "F16", 1, 2), (30, "BF16", 1, 2),
        (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22), (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34), (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110), (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210), (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98), (19, "IQ1_S", 256, 50), (20, "IQ4_NL", 32, 18),
        (21, "IQ3_S", 256, 110), (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136), (29, "IQ1_M", 256, 56),
    )
}  # fmt: skip
"""The types of the published files, and those that they are made from, by ggml's numbers."""
_NORM: Final = frozenset({_F32})
_MATRIX: Final = frozenset(KINDS)


class Geometry(Struct, frozen=True, kw_only=True):
    """The numbers that every tensor's shape follows from."""

    n_vocab: int
    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int


Check = Callable[[GgufValue], bool]


def _whole(lowest: int, highest: int) -> Check:
    return lambda value: isinstance(value, int) and lowest <= value <= highest


def _number(lowest: float, highest: float) -> Check:
    return lambda value: isinstance(value, float) and math.isfinite(value) and lowest <= value <= highest


def _one_of(*values: GgufValue) -> Check:
    return lambda value: value in values


def _anything(_value: GgufValue) -> bool:
    return True


_ALLOWED: Final[Mapping[str, tuple[int, Check]]] = {
    "general.architecture": (STRING, _one_of("llama")),
    "general.alignment": (UINT32, _one_of(*_ALIGNMENTS)),
    "general.name": (STRING, _anything),
    "general.file_type": (UINT32, _anything),
    "general.quantization_version": (UINT32, _anything),
    "split.no": (UINT16, _one_of(0)),
    "split.count": (UINT16, _anything),
    "split.tensors.count": (INT32, _anything),
    "llama.context_length": (UINT32, _whole(1, _MAX_CONTEXT)),
    "llama.embedding_length": (UINT32, _whole(1, _MAX_WIDTH)),
    "llama.block_count": (UINT32, _whole(1, MAX_LAYERS)),
    "llama.feed_forward_length": (UINT32, _whole(1, _MAX_WIDTH)),
    "llama.vocab_size": (UINT32, _whole(1, _MAX_WIDTH)),
    "llama.attention.head_count": (UINT32, _whole(1, _MAX_WIDTH)),
    "llama.attention.head_count_kv": (UINT32, _whole(1, _MAX_WIDTH)),
    "llama.attention.key_length": (UINT32, _whole(2, _MAX_WIDTH)),
    "llama.attention.value_length": (UINT32, _whole(2, _MAX_WIDTH)),
    "llama.attention.layer_norm_rms_epsilon": (FLOAT32, _number(1e-12, 0.1)),
    "llama.attention.causal": (BOOL, _one_of(True)),
    "llama.rope.dimension_count": (UINT32, _whole(2, _MAX_WIDTH)),
    "llama.rope.freq_base": (FLOAT32, _number(1.0, 1e12)),
    "llama.rope.scale_linear": (FLOAT32, _number(1e-3, 1e3)),
    "llama.rope.scaling.type": (STRING, _one_of("none", "linear")),
    "llama.rope.scaling.factor": (FLOAT32, _number(1e-3, 1e3)),
    "llama.rope.scaling.original_context_length": (UINT32, _whole(1, _MAX_CONTEXT)),
    "llama.rope.scaling.finetuned": (BOOL, _anything),
    "llama.expert_count": (UINT32, _one_of(0)),
    "llama.expert_used_count": (UINT32, _one_of(0)),
    "llama.nextn_predict_layers": (UINT32, _one_of(0)),
    "llama.tensor_data_layout": (STRING, _anything),
}
_READ: Final = ("llama.", "split.")
"""The namespaces in which what is not allowed is refused."""


def check_settings(gguf: GgufFile) -> None:
    """Raise EngineError unless every setting that llama.cpp reads is one of this family's and possible."""
    for key, value in gguf.metadata.items():
        allowed = _ALLOWED.get(key)
        if allowed is None:
            if key.startswith(_READ):
                raise damaged(
                    gguf.path, _("models of Tanuki's kind have no setting {key}").format(key=brief(key))
                )
            continue
        kind, check = allowed
        if gguf.kinds[key] != kind or not check(value):
            raise damaged(gguf.path, _("{key} is missing or impossible").format(key=key))


def check_tensors(gguf: GgufFile, geometry: Geometry) -> None:
    """Raise EngineError unless ``gguf`` holds the tensors of a Llama model of that ``geometry``, each once,
    in its shape, in a type that llama.cpp computes with in its place, and whole."""
    allowed = dict(_allowed_tensors(geometry))
    found: set[str] = set()
    for path, tensors in zip(gguf.parts, gguf.tensors, strict=True):
        end = 0
        for tensor in tensors:
            expected = allowed.get(tensor.name)
            if expected is None or tensor.name in found:
                raise damaged(
                    path, _("there is no place for the tensor {name}").format(name=brief(tensor.name))
                )
            shape, kinds = expected
            if not _has_shape(tensor, shape) or tensor.kind not in kinds or not _fills_blocks(tensor):
                raise damaged(
                    path, _("tensor {name} has an impossible shape or type").format(name=tensor.name)
                )
            found.add(tensor.name)
            if tensor.offset != end or end + nbytes(tensor) > tensor.available:
                raise damaged(path, _("the weights end too early"))
            end += -(-nbytes(tensor) // gguf.alignment) * gguf.alignment
    missing = sorted(allowed.keys() - found - _OPTIONAL)
    if missing:
        raise damaged(gguf.path, _("tensor {name} is missing").format(name=missing[0]))
    promised = gguf.metadata.get("split.tensors.count", len(found))
    if len(gguf.parts) > 1 and promised != len(found):
        raise damaged(gguf.path, _("the weights end too early"))


def nbytes(tensor: GgufTensor) -> int:
    """Bytes of an admitted tensor, without padding."""
    kind = KINDS[tensor.kind]
    return math.prod(tensor.shape) // kind.block * kind.size


def _has_shape(tensor: GgufTensor, shape: tuple[int, ...]) -> bool:
    """Trailing dimensions of one do not count."""
    own = tensor.shape
    return own[: len(shape)] == shape and all(size == 1 for size in own[len(shape) :])


def _fills_blocks(tensor: GgufTensor) -> bool:
    return tensor.shape[0] % KINDS[tensor.kind].block == 0


_OPTIONAL: Final = frozenset({"output.weight", "rope_freqs.weight"})
"""Without the first, the input embedding is the output's matrix too."""


def _allowed_tensors(shape: Geometry) -> Iterator[tuple[str, tuple[tuple[int, ...], frozenset[int]]]]:
    """Name, shape and types of each tensor that the architecture has."""
    width, kv_width = shape.n_head * shape.head_dim, shape.n_kv_head * shape.head_dim
    yield "token_embd.weight", ((shape.n_embd, shape.n_vocab), _MATRIX)
    yield "output.weight", ((shape.n_embd, shape.n_vocab), _MATRIX)
    yield "output_norm.weight", ((shape.n_embd,), _NORM)
    yield "rope_freqs.weight", ((shape.head_dim // 2,), _NORM)
    for index in range(shape.n_layer):
        prefix = f"blk.{index}."
        yield prefix + "attn_norm.weight", ((shape.n_embd,), _NORM)
        yield prefix + "attn_q.weight", ((shape.n_embd, width), _MATRIX)
        yield prefix + "attn_k.weight", ((shape.n_embd, kv_width), _MATRIX)
        yield prefix + "attn_v.weight", ((shape.n_embd, kv_width), _MATRIX)
        yield prefix + "attn_output.weight", ((width, shape.n_embd), _MATRIX)
        yield prefix + "ffn_norm.weight", ((shape.n_embd,), _NORM)
        yield prefix + "ffn_gate.weight", ((shape.n_embd, shape.n_ff), _MATRIX)
        yield prefix + "ffn_up.weight", ((shape.n_embd, shape.n_ff), _MATRIX)
        yield prefix + "ffn_down.weight", ((shape.n_ff, shape.n_embd), _MATRIX)

"""How much memory a model will take, forecast in one place for the catalog and the engines."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

KvType = Literal["f32", "f16", "q8_0"]

GPU_RESERVE_BYTES: Final = 600_000_000
"""Left free on every GPU under llama.cpp: the driver's own context, scratch memory, and the screen."""
TORCH_GPU_RESERVE_BYTES: Final = 1_000_000_000
"""Left free on every GPU under torch: the driver's context, the libraries' scratch memory, and the screen."""
TORCH_BYTES: Final = 600_000_000
"""What torch and transformers themselves take of the main memory once loaded."""
# A q8_0 block is 32 one-byte numbers and a two-byte scale.
KV_BYTES: Final[Mapping[KvType, float]] = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
# Python with the libraries, and the tokenizer; measured as peak memory without weights.
PROCESS_BYTES: Final = 80_000_000
TOKENIZER_BYTES_PER_PIECE: Final = 900


class MemoryEstimate(Struct, frozen=True, kw_only=True):
    """Bytes a loaded model takes, by what takes them."""

    weights: int
    kv_cache: int
    compute: int
    overhead: int

    @property
    def total(self) -> int:
        """The forecast peak."""
        return self.weights + self.kv_cache + self.compute + self.overhead


def estimate_memory(
    *,
    weights_bytes: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    hidden_size: int,
    vocab_size: int,
    context_length: int,
    kv_type: KvType = "f16",
    n_ubatch: int = 512,
    flash_attention: bool = True,
    overhead_bytes: int | None = None,
) -> MemoryEstimate:
    """Forecast the peak memory of one model with one sequence, as llama.cpp lays it out.

    ``weights_bytes`` is the size of the file: mapped, and not repacked (repacking adds as much
    again). The compute buffer holds float32 activations and the logits of one micro-batch; without
    flash attention also its attention scores.
    """
    kv_cache = round(2 * n_layers * n_kv_heads * head_dim * context_length * KV_BYTES[kv_type])
    per_token = vocab_size + hidden_size
    if not flash_attention:
        per_token = max(per_token, n_heads * context_length + hidden_size)
    return MemoryEstimate(
        weights=weights_bytes,
        kv_cache=kv_cache,
        compute=4 * min(n_ubatch, context_length) * per_token,
        overhead=PROCESS_BYTES + TOKENIZER_BYTES_PER_PIECE * vocab_size
        if overhead_bytes is None
        else overhead_bytes,
    )

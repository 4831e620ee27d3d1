"""What a GGUF model will take of the machine's memory, and how many layers a GPU can hold. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.machine.memory import GPU_RESERVE_BYTES, KV_BYTES, KvType, MemoryEstimate, estimate_memory


class MemoryNeeds(Struct, frozen=True, kw_only=True):
    """``host`` is the main memory, ``gpu_bytes`` what the offloaded layers take."""

    host: MemoryEstimate
    gpu_bytes: int


def all_layers(facts: ModelFacts) -> int:
    """Layers in llama.cpp's count: the output matrix is one more."""
    return facts.n_layer + 1


def forecast(
    facts: ModelFacts,
    *,
    context_length: int,
    kv_type: KvType,
    n_batch: int,
    gpu_layers: int = 0,
    repack: bool = False,
) -> MemoryNeeds:
    """The peak of a loaded model with its whole context in use.

    The input embedding always stays on the host; ``repack`` counts the second copy of the weights
    that llama.cpp makes when it rearranges them for the CPU.
    """
    offloaded = _offload_order(facts)[:gpu_layers]
    on_gpu = sum(offloaded)
    kv_on_gpu = max(0, gpu_layers - 1)
    estimate = estimate_memory(
        weights_bytes=(facts.file_bytes - on_gpu) * (2 if repack else 1),
        n_layers=facts.n_layer - kv_on_gpu,
        n_heads=facts.n_head,
        n_kv_heads=facts.n_kv_head,
        head_dim=facts.head_dim,
        hidden_size=facts.n_embd,
        vocab_size=facts.n_vocab,
        context_length=context_length,
        kv_type=kv_type,
        n_ubatch=n_batch,
        flash_attention=uses_flash_attention(kv_type, gpu_layers=gpu_layers),
    )
    per_layer = kv_bytes_per_layer(facts, context_length=context_length, kv_type=kv_type)
    compute = estimate.compute if gpu_layers else 0
    return MemoryNeeds(host=estimate, gpu_bytes=on_gpu + kv_on_gpu * per_layer + compute)


def uses_flash_attention(kv_type: KvType, *, gpu_layers: int) -> bool:
    """On a GPU, and with a quantised cache, which cannot do without; loader.py says why."""
    return kv_type == "q8_0" or (gpu_layers > 0 and kv_type != "f32")


def kv_bytes_per_layer(facts: ModelFacts, *, context_length: int, kv_type: KvType) -> int:
    """Bytes of keys and values of one layer for the whole context."""
    return round(2 * facts.n_kv_head * facts.head_dim * context_length * KV_BYTES[kv_type])


def gpu_layers_that_fit(
    facts: ModelFacts, *, free_bytes: Sequence[int], context_length: int, kv_type: KvType, n_batch: int
) -> int:
    """The most layers whose weights and KV cache fit the GPUs with ``free_bytes`` each."""
    needs = forecast(facts, context_length=context_length, kv_type=kv_type, n_batch=n_batch, gpu_layers=1)
    scratch = needs.gpu_bytes - facts.output_bytes
    room = sum(max(0, free - GPU_RESERVE_BYTES - scratch) for free in free_bytes)
    per_layer = kv_bytes_per_layer(facts, context_length=context_length, kv_type=kv_type)
    count = 0
    for index, weights in enumerate(_offload_order(facts)):
        room -= weights + (per_layer if index else 0)
        if room < 0:
            break
        count += 1
    return count


def _offload_order(facts: ModelFacts) -> list[int]:
    """Bytes of each layer as llama.cpp offloads them: the output first, then from the last layer on."""
    return [facts.output_bytes, *reversed(facts.layer_bytes)]

"""Where a checkpoint goes: which device and type, and when it is refused."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo, QuantizationInfo
from tanuki_cli.engines.transformers.weights import WeightFiles
from tanuki_cli.errors import EngineError
from tanuki_cli.machine.gpus import Gpu
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch

    from tanuki_cli.engines.transformers.placement import (
        Placement,
        choose_dtype,
        memory_needed,
        place_on_cpu,
        place_on_gpus,
    )

GB = 10**9
FULL = CheckpointInfo(
    path=Path("full"),
    architecture="LlamaForCausalLM",
    custom_code=None,
    code_files=(),
    weights=WeightFiles(layers=32, entry="model.safetensors.index.json", bytes=15 * GB, dtype="bfloat16"),
    quantization=None,
    bos_id=1,
    eos_id=2,
    other_eos_ids=(2,),
    vocab_size=65024,
    max_position_embeddings=8192,
    num_layers=32,
    num_kv_heads=8,
    head_dim=128,
)
GPTQ = replace(
    FULL,
    weights=WeightFiles(layers=32, entry="gptq_model-8bit-128g.safetensors", bytes=8 * GB, dtype="float16"),
    quantization=QuantizationInfo(method="gptq", bits=8, group_size=128, desc_act=False),
)
AWQ = replace(
    GPTQ,
    weights=WeightFiles(layers=32, entry="model.safetensors", bytes=5 * GB, dtype="float16"),
    quantization=QuantizationInfo(method="awq", bits=4, group_size=128, desc_act=False),
)
KV_4096 = 4096 * 128 * 1024


def gpus(*free_gb: float) -> list[Gpu]:
    return [
        Gpu(name=f"GPU {index}", free_bytes=int(free * GB), total_bytes=int(free * GB))
        for index, free in enumerate(free_gb)
    ]


def on_gpus(info: CheckpointInfo, *free_gb: float, bf16: bool = True) -> Placement:
    return place_on_gpus(info, gpus(*free_gb), bf16=bf16, name="tanuki", context_length=4096)


def test_types() -> None:
    as_stored = {
        dtype: replace(FULL, weights=replace(FULL.weights, dtype=dtype))
        for dtype in ("float32", "float16", "bfloat16")
    }
    for dtype, info in as_stored.items():
        assert choose_dtype(info, backend="cpu", bf16=True) == dtype
        assert choose_dtype(info, backend="cuda", bf16=True) == dtype
    assert choose_dtype(FULL, backend="cuda", bf16=False) == "float16"
    assert choose_dtype(AWQ, backend="cuda", bf16=True) == "float16"
    assert choose_dtype(AWQ, backend="cpu", bf16=True) == "bfloat16"


def test_memory_of_the_8b() -> None:
    assert memory_needed(FULL, "bfloat16", context_length=4096) == pytest.approx(15 * GB + KV_4096, rel=0.001)
    assert memory_needed(FULL, "float32", context_length=4096) == pytest.approx(
        2 * (15 * GB + KV_4096), rel=0.001
    )
    assert memory_needed(AWQ, "float16", context_length=4096) == pytest.approx(5 * GB + KV_4096, rel=0.001)


def test_the_emptiest_gpu_takes_the_whole_model() -> None:
    placement = on_gpus(FULL, 8, 24)
    assert placement.device_map == {"": "cuda:1"}
    assert placement.label == "GPU 1 bf16"
    assert placement.torch_dtype == torch.bfloat16
    assert on_gpus(AWQ, 12).label == "GPU 0 AWQ 4 bit"
    assert on_gpus(FULL, 24, bf16=False).label == "GPU 0 f16"


def test_two_gpus_share_what_one_cannot_hold() -> None:
    placement = on_gpus(FULL, 12, 12)
    assert placement.device_map == "auto"
    assert placement.label == "GPU 0, GPU 1 bf16"
    assert sum(placement.max_memory.values()) == pytest.approx(22 * GB - KV_4096, rel=0.001)
    assert min(placement.max_memory.values()) > 15 * GB / 2


@pytest.mark.parametrize("free", [(12,), (8, 9), (0.1,)])
def test_gpus_that_are_too_small(free: tuple[float, ...]) -> None:
    with pytest.raises(EngineError, match="GPU memory") as error:
        on_gpus(FULL, *free)
    assert "--gpu-layers 0" in (error.value.hint or "")


def test_main_memory() -> None:
    assert place_on_cpu(FULL, 20 * GB, name="tanuki", context_length=4096).label == "CPU bf16"
    with pytest.raises(EngineError, match=r"16\.\d GB of memory, and 10\.0 GB"):
        place_on_cpu(FULL, 10 * GB, name="tanuki", context_length=4096)


def test_eight_bits_are_unpacked_on_a_cpu() -> None:
    placement = place_on_cpu(GPTQ, 20 * GB, name="tanuki", context_length=4096)
    assert placement.dense
    assert placement.torch_dtype == torch.bfloat16
    with pytest.raises(EngineError):
        place_on_cpu(GPTQ, 12 * GB, name="tanuki", context_length=4096)
    assert not place_on_cpu(AWQ, 12 * GB, name="tanuki", context_length=4096).dense
    assert not on_gpus(GPTQ, 24).dense

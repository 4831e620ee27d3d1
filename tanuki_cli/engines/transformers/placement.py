"""Where a checkpoint's weights go and in which type, and whether they fit there."""

import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from msgspec import Struct

from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo
from tanuki_cli.engines.transformers.weights import BYTES_PER_VALUE, Dtype
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.machine.hardware import format_bytes, inspect_machine
from tanuki_cli.machine.memory import TORCH_BYTES, TORCH_GPU_RESERVE_BYTES
from tanuki_cli.settings.values import Settings

Backend = Literal["cpu", "cuda", "mps"]

_SHORT_NAMES: Final[Mapping[Dtype, str]] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class Placement(Struct, frozen=True, kw_only=True):
    """A decision: the backend, the type of the weights, and how layers are spread.

    ``device_map`` is as transformers takes it; ``max_memory`` is given where it must spread the
    layers itself. ``dense`` says that quantised weights are unpacked once after loading.
    """

    backend: Backend
    dtype: Dtype
    label: str
    device_map: str | Mapping[str, str]
    max_memory: Mapping[int, int] = {}
    dense: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type as torch names it."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype


def place(info: CheckpointInfo, settings: Settings, *, name: str, context_length: int) -> Placement:
    """Choose for this machine: its GPUs if the model fits there, else the CPU if ``gpu_layers`` is 0.

    ``name`` is what the user calls the model. Raises EngineError if it fits nowhere it may go.
    """
    backend = available_backend() if settings.gpu_layers != 0 else "cpu"
    if backend == "cuda":
        return place_on_gpus(
            info, cuda_gpus(), bf16=_cuda_has_bf16(), name=name, context_length=context_length
        )
    available = inspect_machine(os.environ).available_ram_bytes
    if backend == "mps":
        bf16 = torch.backends.mps.is_macos_or_newer(14, 0)
        dtype = choose_dtype(info, backend="mps", bf16=bf16)
        _check_fits(info, dtype, available, name=name, context_length=context_length)
        return Placement(backend="mps", dtype=dtype, label=_label("MPS", info, dtype), device_map={"": "mps"})
    return place_on_cpu(info, available, name=name, context_length=context_length)


def available_backend() -> Backend:
    """The fastest backend that this torch was built for and that has a device here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cuda_gpus() -> list[Gpu]:
    """The CUDA devices this process may use, in torch's order."""
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = map(int, torch.cuda.mem_get_info(index))
        found.append(Gpu(name=torch.cuda.get_device_name(index), free_bytes=free, total_bytes=total))
    return found


def _cuda_has_bf16() -> bool:
    return all(
        torch.cuda.get_device_capability(index) >= (8, 0) for index in range(torch.cuda.device_count())
    )


def choose_dtype(info: CheckpointInfo, *, backend: Backend, bf16: bool) -> Dtype:
    """The type to compute in: as stored, except where the device cannot.

    Quantised weights come with half-precision scales: GPU kernels want float16, the CPU's matrix
    products are eight times faster in bfloat16. A GPU without bfloat16 takes float16.
    """
    if info.quantization is not None:
        return "bfloat16" if backend == "cpu" else "float16"
    if info.weights.dtype == "bfloat16" and not bf16:
        return "float16"
    return info.weights.dtype


def memory_needed(info: CheckpointInfo, dtype: Dtype, *, context_length: int, dense: bool = False) -> int:
    """Bytes for weights, KV cache and the widest activations, without the libraries themselves."""
    size = BYTES_PER_VALUE[dtype]
    if info.quantization is None:
        weights = info.weights.bytes * size // BYTES_PER_VALUE[info.weights.dtype]
    elif dense:
        weights = info.weights.bytes * size * 8 // info.quantization.bits
    else:
        weights = info.weights.bytes
    return weights + info.kv_bytes(context_length, bytes_per_value=size) + 8 * info.vocab_size


def place_on_cpu(info: CheckpointInfo, available: int, *, name: str, context_length: int) -> Placement:
    """Into ``available`` bytes of main memory. Raises EngineError if it does not fit."""
    dtype = choose_dtype(info, backend="cpu", bf16=True)
    # Nothing fast multiplies packed 8-bit weights on a CPU: seconds per token against fractions.
    dense = info.quantization is not None and info.quantization.bits == 8
    _check_fits(info, dtype, available, name=name, context_length=context_length, dense=dense)
    return Placement(
        backend="cpu", dtype=dtype, label=_label("CPU", info, dtype), device_map={"": "cpu"}, dense=dense
    )


def place_on_gpus(
    info: CheckpointInfo, gpus: Sequence[Gpu], *, bf16: bool, name: str, context_length: int
) -> Placement:
    """Onto the emptiest GPU if it holds the whole model, else over all of them.

    Raises EngineError if they cannot hold it together: layers left in main memory would be copied
    for every token.
    """
    dtype = choose_dtype(info, backend="cuda", bf16=bf16)
    needed = memory_needed(info, dtype, context_length=context_length)
    rooms = [max(0, gpu.free_bytes - TORCH_GPU_RESERVE_BYTES) for gpu in gpus]
    best = max(range(len(gpus)), key=rooms.__getitem__)
    if needed <= rooms[best]:
        label = _label(gpus[best].name, info, dtype)
        return Placement(backend="cuda", dtype=dtype, label=label, device_map={"": f"cuda:{best}"})
    if needed > sum(rooms):
        raise EngineError(
            _("{model} needs about {needed} of GPU memory, and {available} is free.").format(
                model=name, needed=format_bytes(needed), available=format_bytes(sum(rooms))
            ),
            hint=_("Use a smaller variant (tanuki models), or the CPU: --gpu-layers 0"),
        )
    kv_share = info.kv_bytes(context_length, bytes_per_value=BYTES_PER_VALUE[dtype])
    return Placement(
        backend="cuda",
        dtype=dtype,
        label=_label(", ".join(gpu.name for gpu in gpus), info, dtype),
        device_map="auto",
        max_memory={index: max(0, room - kv_share * room // sum(rooms)) for index, room in enumerate(rooms)},
    )


def _check_fits(
    info: CheckpointInfo,
    dtype: Dtype,
    available: int,
    *,
    name: str,
    context_length: int,
    dense: bool = False,
) -> None:
    needed = TORCH_BYTES + memory_needed(info, dtype, context_length=context_length, dense=dense)
    if needed > available:
        raise EngineError(
            _("{model} needs about {needed} of memory, and {available} is free.").format(
                model=name, needed=format_bytes(needed), available=format_bytes(available)
            ),
            hint=_(
                "Close other programs, use a shorter --context-length, or a smaller variant: tanuki models"
            ),
        )


def _label(device: str, info: CheckpointInfo, dtype: Dtype) -> str:
    if info.quantization is None:
        return f"{device} {_SHORT_NAMES[dtype]}"
    return f"{device} {info.quantization.method.upper()} {info.quantization.bits} bit"

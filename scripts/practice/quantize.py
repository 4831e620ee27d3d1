"""Rounds the practice model to GPTQ and AWQ checkpoints, laid out like the published ones.

Plain rounding to the nearest level: what matters to the tests is the layout, and a model this well
learned stands it. Weights are (outputs, inputs); every size is a multiple of the group.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .export import Weights
from .settings_files import write_settings

Layout = Literal["gptq-4bit", "gptq-8bit", "awq"]
LAYOUTS: tuple[Layout, ...] = ("gptq-4bit", "gptq-8bit", "awq")
Packed = dict[str, NDArray[Any]]
GROUP = 128
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # the column that each nibble of a word holds


def write_quantized(
    folder: Path, weights: Weights, config: dict[str, Any], tokenizer: Path, layout: Layout
) -> None:
    """A checkpoint folder with the matrices of the layers packed and everything else in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: Packed = {}
    for name, weight in weights.items():
        if "_proj." in name:
            stem = name.removesuffix("weight")
            tensors |= {stem + part: value for part, value in _pack(weight, layout).items()}
        else:
            tensors[name] = weight.astype(np.float16)
    save_file(tensors, folder / _FILES[layout], metadata={"format": "pt"})
    settings = {**config, "torch_dtype": "float16", "quantization_config": _settings(layout)}
    write_settings(folder, settings, tokenizer)


_FILES: dict[Layout, str] = {
    "gptq-4bit": "gptq_model-4bit-128g.safetensors",
    "gptq-8bit": "gptq_model-8bit-128g.safetensors",
    "awq": "model.safetensors",
}


def _settings(layout: Layout) -> dict[str, Any]:
    if layout == "awq":
        return {
            "quant_method": "awq",
            "bits": 4,
            "group_size": GROUP,
            "zero_point": True,
            "version": "gemm",
            "modules_to_not_convert": None,
        }
    return {
        "quant_method": "gptq",
        "bits": 4 if layout == "gptq-4bit" else 8,
        "group_size": GROUP,
        "sym": True,
        "desc_act": False,
        "static_groups": False,
        "true_sequential": True,
        "damp_percent": 0.01,
        "checkpoint_format": "gptq",
        "model_file_base_name": _FILES[layout].removesuffix(".safetensors"),
    }


def _pack(weight: NDArray[np.float32], layout: Layout) -> Packed:
    if layout == "awq":
        return pack_awq(weight)
    return pack_gptq(weight, bits=4 if layout == "gptq-4bit" else 8)


def pack_gptq(weight: NDArray[np.float32], *, bits: int) -> Packed:
    """Symmetric GPTQ in its first layout: words run along the inputs, low bits first, and the zero
    points are stored minus one."""
    outputs, inputs = weight.shape
    groups = weight.reshape(outputs, inputs // GROUP, GROUP)
    zero = 2 ** (bits - 1)
    scales = _scales(np.abs(groups).max(-1) / (zero - 1))
    levels = np.rint(groups / scales[..., None]) + zero
    levels = levels.clip(0, 2 * zero - 1).reshape(outputs, inputs)
    zeros = np.full((inputs // GROUP, outputs), zero - 1)
    return {
        "qweight": _words(levels.T.reshape(inputs // (32 // bits), 32 // bits, outputs), bits, axis=1),
        "qzeros": _words(zeros.reshape(len(zeros), -1, 32 // bits), bits, axis=2),
        "scales": np.ascontiguousarray(scales.T, dtype=np.float16),
        "g_idx": (np.arange(inputs) // GROUP).astype(np.int32),
    }


def pack_awq(weight: NDArray[np.float32]) -> Packed:
    """AWQ in its "gemm" layout: words of eight outputs in a shuffled order, zero points as they are."""
    outputs, inputs = weight.shape
    groups = weight.reshape(outputs, inputs // GROUP, GROUP)
    low, high = groups.min(-1).clip(max=0), groups.max(-1).clip(min=0)
    scales = _scales((high - low) / 15)
    zeros = np.rint(-low / scales).clip(0, 15)
    levels = (np.rint(groups / scales[..., None]) + zeros[..., None]).clip(0, 15)

    def words(values: NDArray[Any]) -> NDArray[np.int32]:
        eights = values.reshape(len(values), -1, 8)[..., _AWQ_ORDER]
        return _words(eights, 4, axis=2)

    return {
        "qweight": words(levels.reshape(outputs, inputs).T),
        "qzeros": words(zeros.T),
        "scales": np.ascontiguousarray(scales.T, dtype=np.float16),
    }


def _scales(exact: NDArray[np.float32]) -> NDArray[np.float32]:
    """As float16 will give them back, and never zero."""
    return np.maximum(exact, 1e-6).astype(np.float16).astype(np.float32)


def _words(values: NDArray[Any], bits: int, *, axis: int) -> NDArray[np.int32]:
    """One int32 for the values along `axis`, the first in the lowest bits; the axis is gone."""
    shifts = np.arange(values.shape[axis], dtype=np.uint32) * np.uint32(bits)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    shifted = values.astype(np.uint32) << shifts.reshape(shape)
    merged: NDArray[np.uint32] = np.bitwise_or.reduce(shifted, axis=axis)
    return np.ascontiguousarray(merged).view(np.int32)

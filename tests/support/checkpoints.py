"""Tiny checkpoints with random weights, laid out like the published ones."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import load_file, save_file

Layout = Literal["awq", "gptq"]
GROUP_SIZE = 128
AWQ_NIBBLES = (0, 2, 4, 6, 1, 3, 5, 7)


def tiny_config(**changes: Any) -> transformers.LlamaConfig:
    """A Llama of Tanuki's kind: grouped-query attention, untied embeddings, two layers."""
    values: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        **changes,
    }
    return transformers.LlamaConfig(**values)


def write_checkpoint(
    directory: Path, *, dtype: torch.dtype = torch.float32, shard: str = "1GB", **changes: Any
) -> Path:
    """Save a random model as safetensors under ``directory`` and return it."""
    torch.manual_seed(0)
    # Wide logits: the best token is then clear, so that rounding cannot change it.
    model = transformers.LlamaForCausalLM(tiny_config(initializer_range=0.2, **changes)).to(dtype)
    model.save_pretrained(directory, max_shard_size=shard)
    return directory


def write_quantized(
    directory: Path, *, layout: Layout, bits: int = 4, desc_act: bool = False, **settings: Any
) -> Path:
    """Save the model of :func:`write_checkpoint` with its linear layers rounded to ``bits``.

    GPTQ is the v1 layout under the name AutoGPTQ gives it, AWQ the "gemm" one. ``directory/exact``
    holds the same numbers as plain float32.
    """
    write_checkpoint(directory, dtype=torch.float16)
    weights = directory / "model.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    exact: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(weights).items():
        exact[name] = tensor.float()
        if not name.endswith("_proj.weight"):
            tensors[name] = tensor
            continue
        if layout == "gptq":
            packed, exact[name] = pack_gptq(tensor.float(), bits=bits, desc_act=desc_act)
        else:
            packed, exact[name] = pack_awq(tensor.float(), bits=bits)
        tensors |= {name.replace("weight", part): value for part, value in packed.items()}
    weights.unlink()
    shutil.copytree(directory, directory / "exact")
    save_file(exact, directory / "exact" / "model.safetensors", metadata={"format": "pt"})
    name = f"gptq_model-{bits}bit-{GROUP_SIZE}g.safetensors" if layout == "gptq" else "model.safetensors"
    save_file(tensors, directory / name, metadata={"format": "pt"})
    quantization: dict[str, Any] = {"quant_method": layout, "bits": bits, "group_size": GROUP_SIZE}
    if layout == "gptq":
        quantization |= {"sym": True, "desc_act": desc_act, "checkpoint_format": "gptq"}
    else:
        quantization |= {"zero_point": True, "version": "gemm", "modules_to_not_convert": None}
    edit_config(directory, quantization_config={**quantization, **settings})
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    """Change keys of ``config.json``; None removes one."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config), encoding="utf-8")


def _pack_bits(values: torch.Tensor, bits: int, *, dim: int) -> torch.Tensor:
    """Pack unsigned integers along ``dim`` into int32, low bits first."""
    per_word = 32 // bits
    rows = values.movedim(dim, 0).to(torch.int64)
    words = torch.zeros(rows.shape[0] // per_word, *rows.shape[1:], dtype=torch.int64)
    for index in range(per_word):
        words |= rows[index::per_word] << (bits * index)
    words = torch.where(words >= 2**31, words - 2**32, words)
    return words.to(torch.int32).movedim(0, dim).contiguous()


Packed = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Tensors by the last part of their names, and the weight that they stand for."""


def pack_gptq(weight: torch.Tensor, *, bits: int, desc_act: bool = False) -> Packed:
    """Symmetric GPTQ v1: packed along the inputs, zeros stored minus one. ``weight`` is (out, in).

    With ``desc_act`` the inputs are grouped in another order than they are stored in.
    """
    outputs, inputs = weight.shape
    order = torch.randperm(inputs) if desc_act else torch.arange(inputs)
    groups = weight[:, order].reshape(outputs, inputs // GROUP_SIZE, GROUP_SIZE)
    zero = 2 ** (bits - 1)
    scales = (groups.abs().amax(-1) / (zero - 1)).half()
    grouped = (groups / scales[..., None].float()).round().add(zero).clamp(0, 2 * zero - 1)
    levels = torch.empty_like(weight)
    levels[:, order] = grouped.reshape(outputs, inputs)
    g_idx = torch.empty(inputs, dtype=torch.int32)
    g_idx[order] = torch.arange(inputs, dtype=torch.int32) // GROUP_SIZE
    packed = {
        "qweight": _pack_bits(levels.T, bits, dim=0),
        "qzeros": _pack_bits(torch.full((inputs // GROUP_SIZE, outputs), zero - 1), bits, dim=1),
        "scales": scales.T.contiguous(),
        "g_idx": g_idx,
    }
    return packed, (levels - zero) * scales.float()[:, g_idx.long()]


def pack_awq(weight: torch.Tensor, *, bits: int) -> Packed:
    """AWQ "gemm" with zero points: packed along the outputs in AWQ's nibble order."""
    outputs, inputs = weight.shape
    groups = weight.reshape(outputs, inputs // GROUP_SIZE, GROUP_SIZE)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    top = 2**bits - 1
    scales = ((high - low) / top).half()
    zeros = (-low / scales.float()).round().clamp(0, top)
    levels = (groups / scales[..., None].float()).round().add(zeros[..., None]).clamp(0, top)

    def pack(values: torch.Tensor) -> torch.Tensor:
        shuffled = values.reshape(values.shape[0], -1, 8)[..., list(AWQ_NIBBLES)]
        return _pack_bits(shuffled.reshape(values.shape), bits, dim=1)

    packed = {
        "qweight": pack(levels.reshape(outputs, inputs).T),
        "qzeros": pack(zeros.T),
        "scales": scales.T.contiguous(),
    }
    exact = (levels - zeros[..., None]) * scales[..., None].float()
    return packed, exact.reshape(outputs, inputs)

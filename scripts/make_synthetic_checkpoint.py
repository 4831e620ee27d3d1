"""Write a safetensors checkpoint of Tanuki-8B's exact shape with random weights.

For memory and speed work only: what it says is noise. One file a layer, never in git.

    python -m scripts.make_synthetic_checkpoint /somewhere/full
    python -m scripts.make_synthetic_checkpoint /somewhere/awq --layout awq
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch
from safetensors.torch import save_file

from scripts.make_synthetic_gguf import WEIGHT_STD, Shape

Layout = Literal["full", "gptq-4bit", "gptq-8bit", "awq"]
Tensors = dict[str, torch.Tensor]

_GROUP: Final = 128
_ZEROS: Final[Mapping[Layout, int]] = {"gptq-4bit": 0x77777777, "gptq-8bit": 0x7F7F7F7F, "awq": 0x88888888}
"""The middle level in every place of a word; GPTQ's first layout stores it minus one."""


def write_checkpoint(
    directory: Path, shape: Shape, layout: Layout, *, device: str = "cpu", seed: int = 0
) -> None:
    """Write config.json, an index and the weights: bfloat16, or packed with everything else in float16.

    ``device`` draws the random numbers; a GPU does it in seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(_files(shape, layout, torch.device(device))):
        name = f"model-{number:05d}.safetensors"
        save_file(tensors, directory / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": weight_map}
    _write_json(directory / "model.safetensors.index.json", index)
    _write_json(directory / "config.json", _config(shape, layout))


def _files(shape: Shape, layout: Layout, device: torch.device) -> Iterator[Tensors]:
    dtype = torch.bfloat16 if layout == "full" else torch.float16
    kv_width = shape.n_embd // shape.n_head * shape.n_kv_head
    matrices = {
        "self_attn.q_proj": (shape.n_embd, shape.n_embd),
        "self_attn.k_proj": (kv_width, shape.n_embd),
        "self_attn.v_proj": (kv_width, shape.n_embd),
        "self_attn.o_proj": (shape.n_embd, shape.n_embd),
        "mlp.gate_proj": (shape.n_ff, shape.n_embd),
        "mlp.up_proj": (shape.n_ff, shape.n_embd),
        "mlp.down_proj": (shape.n_embd, shape.n_ff),
    }

    def dense(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, dtype=dtype, device=device).mul_(WEIGHT_STD).cpu()

    pack = _packer(layout, device)
    norm = torch.ones(shape.n_embd, dtype=dtype)
    outer = {"model.embed_tokens": dense(shape.n_vocab, shape.n_embd), "model.norm": norm.clone()}
    outer["lm_head"] = dense(shape.n_vocab, shape.n_embd)
    yield {f"{name}.weight": tensor for name, tensor in outer.items()}
    for layer in range(shape.n_layer):
        prefix = f"model.layers.{layer}."
        tensors = {
            f"{prefix}{name}.weight": norm.clone() for name in ("input_layernorm", "post_attention_layernorm")
        }
        for name, (rows, columns) in matrices.items():
            if layout == "full":
                tensors[f"{prefix}{name}.weight"] = dense(rows, columns)
            else:
                tensors |= {f"{prefix}{name}.{part}": value for part, value in pack(rows, columns).items()}
        yield tensors


def _packer(layout: Layout, device: torch.device) -> Callable[[int, int], Tensors]:
    """Random levels around the middle one, with scales that give the standard deviation wanted."""
    bits = 8 if layout == "gptq-8bit" else 4
    per_word = 32 // bits
    scale = WEIGHT_STD / (2**bits / 12**0.5)

    def words(rows: int, columns: int) -> torch.Tensor:
        random = torch.randint(-(2**31), 2**31, (rows, columns), dtype=torch.int32, device=device)
        return random.cpu()

    def pack(outputs: int, inputs: int) -> Tensors:
        groups = inputs // _GROUP
        zeros = torch.full(
            (groups, outputs // per_word), _ZEROS.get(layout, 0) - (2**32 if layout == "awq" else 0)
        )
        shared = {
            "qzeros": zeros.to(torch.int32),
            "scales": torch.full((groups, outputs), scale, dtype=torch.float16),
        }
        if layout == "awq":
            return {**shared, "qweight": words(inputs, outputs // per_word)}
        return {
            **shared,
            "qweight": words(inputs // per_word, outputs),
            "g_idx": torch.arange(inputs, dtype=torch.int32) // _GROUP,
        }

    return pack


def _config(shape: Shape, layout: Layout) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.n_vocab,
        "hidden_size": shape.n_embd,
        "intermediate_size": shape.n_ff,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head,
        "max_position_embeddings": shape.n_ctx_train,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16" if layout == "full" else "float16",
    }
    if layout == "awq":
        quantization: dict[str, Any] = {
            "quant_method": "awq",
            "bits": 4,
            "zero_point": True,
            "version": "gemm",
        }
        config["quantization_config"] = {**quantization, "group_size": _GROUP}
    elif layout != "full":
        quantization = {"quant_method": "gptq", "bits": int(layout[5]), "sym": True, "desc_act": False}
        config["quantization_config"] = {**quantization, "group_size": _GROUP, "checkpoint_format": "gptq"}
    return config


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layout", choices=get_args(Layout), default="full")
    parser.add_argument("--layers", type=int, default=Shape().n_layer, help="fewer layers for smaller files")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    started = time.monotonic()
    shape = Shape(n_layer=arguments.layers)
    write_checkpoint(arguments.directory, shape, arguments.layout, device=arguments.device)
    print(f"{arguments.directory} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

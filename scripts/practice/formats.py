"""Other forms of the shipped model, for tests: GGUF in f32 and f16, and safetensors laid out
like the published checkpoints. No torch: a test gets them in seconds."""

import shutil
from pathlib import Path
from typing import Any

import gguf
from safetensors.numpy import save_file

from .export import Weights, read_gguf, read_tokenizer, write_gguf
from .quantize import LAYOUTS, write_quantized
from .settings_files import write_settings


def write_all(model: Path, tokenizer: Path, out: Path) -> None:
    """Writes out/mame-f32.gguf, out/mame-f16.gguf and out/tokenizer.json, and the checkpoint folders
    out/full, out/gptq-4bit, out/gptq-8bit and out/awq."""
    out.mkdir(parents=True, exist_ok=True)
    weights, config = read_gguf(model)
    document = read_tokenizer(tokenizer)
    types = gguf.GGMLQuantizationType
    write_gguf(out / "mame-f32.gguf", weights, config, document, types.F32)
    write_gguf(out / "mame-f16.gguf", weights, config, document, types.F16)
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    write_safetensors(out / "full", weights, config, tokenizer)
    for layout in LAYOUTS:
        write_quantized(out / layout, weights, config, tokenizer, layout)


def write_safetensors(folder: Path, weights: Weights, config: dict[str, Any], tokenizer: Path) -> None:
    """A float32 checkpoint folder with the files of the published repository."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_settings(folder, config, tokenizer)

"""The practice model in f32 for both local engines, with the very same numbers."""

from pathlib import Path

import gguf

from scripts.practice.export import read_gguf, read_tokenizer, write_gguf
from scripts.practice.formats import write_safetensors
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model


def write_f32(folder: Path) -> tuple[LocalModel, LocalModel]:
    """Write both below ``folder``: for llama.cpp, and for transformers."""
    source, tokenizer = practice_model().path, practice_model().tokenizer
    assert tokenizer is not None
    numbers, config = read_gguf(source)
    path = folder / "f32.gguf"
    write_gguf(path, numbers, config, read_tokenizer(tokenizer), gguf.GGMLQuantizationType.F32)
    write_safetensors(folder / "full", numbers, config, tokenizer)
    return (
        LocalModel(name="f32", format="gguf", path=path, tokenizer=tokenizer),
        LocalModel(name="full", format="safetensors", path=folder / "full", tokenizer=tokenizer),
    )

"""Tiny random GGUF models for the tests of the llama.cpp engine, and how they are loaded."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
from msgspec.structs import replace

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel, load_llama_cpp
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

TINY = Shape(
    n_embd=256, n_ff=768, n_layer=2, n_head=4, n_kv_head=2, n_vocab=1024, n_pieces=1000, n_ctx_train=2048
)
GREEDY = SamplingOptions(temperature=0.0, seed=1)
PROMPT = [1, *range(300, 360), 8, 8]


def write_tiny(path: Path, *, seed: int = 1) -> Path:
    """Weights in f32, so that different batch sizes give the same ids."""
    write_model(path, TINY, quantization="F32", seed=seed, name="Tiny")
    return path


ENGINE = os.environ.get("TANUKI_TEST_ENGINE", "llama.cpp")
"""What computes in the tests that load a model with :func:`load`: see test_ik.py."""


def load(path: Path, settings: Settings | None = None) -> LlamaCppModel:
    model = LocalModel(name="tiny", format="gguf", path=path)
    settings = settings or Settings(context_length=512, threads=1)
    if ENGINE != "llama.cpp":
        settings = replace(settings, engine=ENGINE)
    return load_llama_cpp(model, settings, debug=False)


def rewrite(source: Path, target: Path, changes: Mapping[str, Callable[[gguf.GGUFWriter], None]]) -> Path:
    """Copy a GGUF; the metadata named in ``changes`` is left out and written by the function."""
    reader = gguf.GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in changes:
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    for change in changes.values():
        change(writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def split(source: Path, folder: Path, count: int) -> list[Path]:
    """``source`` as llama-gguf-split leaves it: the metadata in the first part, weights in each."""
    reader = gguf.GGUFReader(source)
    tensors = list(reader.tensors)
    paths = [folder / f"model-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        writer = gguf.GGUFWriter(path, "llama")
        if number == 0:
            for key, field in reader.fields.items():
                if not key.startswith("GGUF.") and key != "general.architecture":
                    kinds = field.types
                    writer.add_key_value(
                        key, field.contents(), kinds[0], kinds[-1] if len(kinds) > 1 else None
                    )
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(tensors))
        for tensor in tensors[number * len(tensors) // count : (number + 1) * len(tensors) // count]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths

"""Checkpoint mutants: config.json, generation_config.json, the index, and the headers of the weights.

python -m tests.fuzz.checkpoint --count 1000 --seed 1
TANUKI_FUZZ_LOAD=1 python -m tests.fuzz.checkpoint --count 100    also load what is let through
"""

import base64
import json
import os
import random
import struct
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
QUANTISED: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
Files = dict[str, bytes]


def _shapes() -> dict[str, list[int]]:
    shapes = {"model.embed_tokens.weight": [64, 32], "model.norm.weight": [32], "lm_head.weight": [64, 32]}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + "input_layernorm.weight": [32], prefix + "post_attention_layernorm.weight": [32]}
        for name, shape in (
            ("self_attn.q_proj", [32, 32]), ("self_attn.k_proj", [16, 32]), ("self_attn.v_proj", [16, 32]),
            ("self_attn.o_proj", [32, 32]), ("mlp.gate_proj", [48, 32]), ("mlp.up_proj", [48, 32]),
            ("mlp.down_proj", [32, 48]),
        ):  # fmt: skip
            shapes[f"{prefix}{name}.weight"] = shape
    return shapes


def _safetensors(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@lru_cache
def _header() -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in _shapes().items():
        start, end = end, end + 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    return header


@lru_cache
def _data() -> bytes:
    size = max(entry["data_offsets"][1] for name, entry in _header().items() if name[0] != "_")
    return bytes(byte & 0x3B for byte in random.Random(0).randbytes(size))


def base() -> Files:
    """A whole checkpoint."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": b'{"eos_token_id": [2, 6]}',
        "model.safetensors": _safetensors(_header(), _data()),
    }


def make(random_: random.Random, path: Path) -> str:
    """One mutant; its files in one, as JSON."""
    name, mutate = random_.choice(MUTATIONS)
    files = mutate(random_, base())
    path.write_text(json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}))
    return name


def _value(random_: random.Random) -> Any:
    return random_.choice(
        [
            *numbers(),
            10**400,
            -1,
            0,
            1.5,
            1e308,
            None,
            True,
            "x" * 100_000,
            "1",
            "\udcff",
            [],
            [1] * 9,
            {},
            [[]],
            "gelu",
        ]
    )


def _config(random_: random.Random, files: Files) -> Files:
    config = dict(CONFIG)
    key = random_.choice([*config, "head_dim", "rope_scaling", "quantization_config", "auto_map"])
    config[key] = _value(random_)
    if random_.random() < 0.2:
        config["quantization_config"] = {**QUANTISED, random_.choice(list(QUANTISED)): _value(random_)}
    if random_.random() < 0.2:
        del config[random_.choice(list(config))]
    return {**files, "config.json": json.dumps(config).encode()}


def _generation(random_: random.Random, files: Files) -> Files:
    value = random_.choice([_value(random_), [_value(random_), 2], 2])
    return {**files, "generation_config.json": json.dumps({"eos_token_id": value}).encode()}


def _entry(random_: random.Random, files: Files) -> Files:
    header = json.loads(json.dumps(_header()))
    name = random_.choice(list(header)[1:])
    entry = header[name]
    action = random_.randrange(6)
    if action == 0:
        entry[random_.choice(list(entry))] = _value(random_)
    elif action == 1:
        entry["dtype"] = random_.choice(("F64", "I8", "BOOL", "F8_E4M3", "F4", "F16", "x" * 9999))
    elif action == 2:
        entry["shape"] = random_.choice(([1 << 62, 4], [0], [-1, -1024], entry["shape"][::-1], [1.5], "ab"))
    elif action == 3:
        entry["data_offsets"] = random_.choice(([0, 0], [8, 4], [-4, 0], [0, 1 << 63], [0], "01", [0, "9"]))
    elif action == 4:
        header["model.layers.99999999999.x"] = header.pop(name)
    else:
        header[name] = random_.choice(
            (None, [], "x", {**entry, "data_offsets": header[list(header)[1]]["data_offsets"]})
        )
    return {**files, "model.safetensors": _safetensors(header, _data())}


def _index(random_: random.Random, files: Files) -> Files:
    place: Any = random_.choice(("model.safetensors", "../x.safetensors", "x", _value(random_), [], {}))
    content: Any = random_.choice(({"weight_map": {"a": place}}, {"weight_map": place}, place, []))
    files = {**files, "model.safetensors.index.json": json.dumps(content).encode()}
    if random_.random() < 0.5:
        files["other.safetensors"] = files.pop("model.safetensors")
    return files


def _deep(random_: random.Random, files: Files) -> Files:
    deep = random_.choice((b"[", b'{"a":')) * random_.choice((500, 100_000))
    name = random_.choice(("config.json", "generation_config.json", "model.safetensors.index.json", ""))
    if name:
        return {**files, name: deep}
    return {**files, "model.safetensors": struct.pack("<Q", len(deep)) + deep + _data()}


def _spoiled(random_: random.Random, files: Files) -> Files:
    name = random_.choice(list(files))
    change = random_.choice((flip_bits, spoil_bytes))
    return {**files, name: change(random_, files[name], below=random_.choice((8, 2000, None)))}


def _gone(random_: random.Random, files: Files) -> Files:
    del files[random_.choice(list(files))]
    return files


MUTATIONS = (
    ("the configuration", _config),
    ("the configuration", _config),
    ("the ids that end an answer", _generation),
    ("a tensor", _entry),
    ("the index", _index),
    ("depth", _deep),
    ("bytes", _spoiled),
    ("a file is gone", _gone),
)


def prepare() -> None:
    """Load a whole one, where that is tried, before the clock runs: torch's imports take long."""
    if os.environ.get("TANUKI_FUZZ_LOAD"):
        with tempfile.TemporaryDirectory() as name:
            for file, data in base().items():
                (Path(name) / file).write_bytes(data)
            _answer(Path(name))


def attempt(path: Path) -> str:
    """Read what the checkpoint says; with TANUKI_FUZZ_LOAD also load it and let it answer."""
    from tanuki_cli.engines.transformers.checkpoint import read_checkpoint
    from tanuki_cli.errors import DamagedModelError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in json.loads(path.read_text()).items():
            (folder / file).write_bytes(base64.b64decode(data))
        try:
            read_checkpoint(folder)
            return _answer(folder) if os.environ.get("TANUKI_FUZZ_LOAD") else "read"
        except DamagedModelError as exc:
            exc.hint = exc.hint or "tanuki pull tanuki-8b:full --verify"
            raise


def _answer(folder: Path) -> str:
    from itertools import islice

    from tanuki_cli.catalog import LocalModel
    from tanuki_cli.engines.consent import never
    from tanuki_cli.engines.token_model import token_ids
    from tanuki_cli.engines.transformers.loader import load_transformers
    from tanuki_cli.sampling import SamplingOptions
    from tanuki_cli.settings.values import Settings

    target = LocalModel(name="mutant", format="safetensors", path=folder)
    model = load_transformers(target, Settings(context_length=64), debug=False, consent=never)
    ids = list(islice(token_ids(model.generate([1, 5, 6], SamplingOptions(temperature=0.0, seed=1))), 2))
    model.close()
    return f"answers with {len(ids)} tokens"


if __name__ == "__main__":
    main((("tests.fuzz.checkpoint", ".json", make),), __doc__ or "")

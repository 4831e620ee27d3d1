"""Reading a checkpoint's directory: what is refused, and with which words."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.engines.transformers.checkpoint import CheckpointInfo, QuantizationInfo, read_checkpoint
from tanuki_cli.errors import DamagedModelError, EngineError
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch

    from tests.support.checkpoints import edit_config, write_checkpoint, write_quantized


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


def refusal(path: Path) -> EngineError:
    with pytest.raises(EngineError) as error:
        read_checkpoint(path)
    assert error.value.hint or isinstance(error.value, DamagedModelError)
    return error.value


def edit_generation(path: Path, **changes: Any) -> None:
    (path / "generation_config.json").write_text(json.dumps(changes), encoding="utf-8")


def test_everything_is_read_without_torch(checkpoint: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tanuki_cli.engines.transformers.checkpoint import read_checkpoint\n"
        f"info = read_checkpoint(Path({str(checkpoint)!r}))\n"
        "assert not {'torch', 'transformers', 'safetensors', 'numpy'} & set(sys.modules)\n"
        "print(info.bos_id, info.eos_id, info.vocab_size, info.num_kv_heads, info.head_dim)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "2", "512", "2", "64"]


def test_sizes(checkpoint: Path) -> None:
    info = read_checkpoint(checkpoint)
    parameters = 2 * 512 * 256 + 256 + 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512 + 2 * 256)
    assert info.weights.bytes == 4 * parameters
    assert info.weights.dtype == "float32"
    assert info.kv_bytes(10, bytes_per_value=4) == 10 * 2 * 2 * 2 * 64 * 4
    assert (info.max_position_embeddings, info.num_layers, info.quantization) == (512, 2, None)


def test_shards_are_joined(tmp_path: Path) -> None:
    whole = read_checkpoint(write_checkpoint(tmp_path / "one", dtype=torch.bfloat16))
    sharded = read_checkpoint(write_checkpoint(tmp_path / "many", dtype=torch.bfloat16, shard="400KB"))
    assert sharded.weights.entry == "model.safetensors.index.json"
    assert (sharded.weights.bytes, sharded.weights.dtype) == (whole.weights.bytes, "bfloat16")


@pytest.mark.parametrize(("layout", "bits"), [("gptq", 4), ("gptq", 8), ("awq", 4)])
def test_quantized(tmp_path: Path, layout: Any, bits: int) -> None:
    info = read_checkpoint(write_quantized(tmp_path, layout=layout, bits=bits))
    assert info.quantization == QuantizationInfo(method=layout, bits=bits, group_size=128, desc_act=False)
    assert info.weights.dtype == "float16"
    assert info.weights.entry == (
        f"gptq_model-{bits}bit-128g.safetensors" if layout == "gptq" else "model.safetensors"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"group_size": 48},
        {"bits": 3},
        {"checkpoint_format": "marlin"},
        {"quant_method": "bitsandbytes"},
        {"quant_method": None},
    ],
)
def test_a_quantisation_no_kernel_runs(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_quantized(tmp_path, layout="gptq")
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    edit_config(path, quantization_config={**settings, **changes})
    assert "quantised" in refusal(path).message


def test_the_stop_id_that_both_files_know_wins(checkpoint: Path) -> None:
    edit_generation(checkpoint, bos_token_id=1, eos_token_id=[6, 2])
    assert read_checkpoint(checkpoint).eos_id == 2
    edit_config(checkpoint, eos_token_id=None)
    assert read_checkpoint(checkpoint).eos_id == 6


def test_no_stop_id(checkpoint: Path) -> None:
    (checkpoint / "generation_config.json").unlink()
    edit_config(checkpoint, eos_token_id=None)
    assert "eos_token_id" in refusal(checkpoint).message


def test_not_a_directory_of_a_model(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path).message
    assert "config.json" in refusal(tmp_path / "missing").message


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\xff"])
def test_a_config_that_is_no_object(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content, encoding="latin-1")
    assert "config.json" in refusal(checkpoint).message


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": None},
        {"num_hidden_layers": 0},
        {"max_position_embeddings": "many"},
        {"hidden_size": True},
    ],
)
def test_a_config_without_its_numbers(checkpoint: Path, changes: dict[str, Any]) -> None:
    edit_config(checkpoint, head_dim=None, **changes)
    assert next(iter(changes)) in refusal(checkpoint).message


def test_another_architecture(checkpoint: Path) -> None:
    edit_config(checkpoint, architectures=["MixtralForCausalLM"])
    assert "MixtralForCausalLM" in refusal(checkpoint).message


def test_own_code_is_named(checkpoint: Path) -> None:
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "modeling_tanuki.TanukiForCausalLM"})
    assert "modeling_tanuki.py" in refusal(checkpoint).message
    (checkpoint / "modeling_tanuki.py").write_text("from .moe import x\n", encoding="utf-8")
    assert "moe.py" in refusal(checkpoint).message
    (checkpoint / "moe.py").touch()
    info: CheckpointInfo = read_checkpoint(checkpoint)
    assert info.custom_code == "modeling_tanuki.TanukiForCausalLM"
    assert info.architecture == "TanukiForCausalLM"


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoModelForCausalLM": "other/repo--modeling.Model"},
        {"AutoConfig": "other/repo--configuration.Config", "AutoModelForCausalLM": "modeling.Model"},
        {"AutoModelForCausalLM": 3},
        {"AutoConfig": "configuration.Config"},
        "modeling.Model",
    ],
)
def test_code_from_elsewhere_or_from_nowhere(checkpoint: Path, auto_map: Any) -> None:
    edit_config(checkpoint, auto_map=auto_map)
    refusal(checkpoint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    assert "pickles" in refusal(checkpoint).message


def test_no_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert "safetensors" in refusal(checkpoint).message


def test_several_files_without_an_index(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    (checkpoint / "a.safetensors").write_bytes(weights.read_bytes())
    weights.rename(checkpoint / "b.safetensors")
    assert "index" in refusal(checkpoint).message


def test_a_missing_shard(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, shard="400KB")
    shard = sorted(path.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refusal(path).message


@pytest.mark.parametrize("name", ["../../secret.safetensors", "weights.bin", 3])
def test_an_index_that_leads_away(tmp_path: Path, name: object) -> None:
    path = write_checkpoint(tmp_path, shard="400KB")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}), encoding="utf-8")
    assert "index.json" in refusal(path).message


@pytest.mark.parametrize("cut", [-1, 5, 100])
def test_a_file_that_is_not_whole(checkpoint: Path, cut: int) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    assert str(weights) in refusal(checkpoint).message


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b'\x0a\0\0\0\0\0\0\0{"a": "b"}', b"\x02\0\0\0\0\0\0\0{}"],
)
def test_a_file_that_is_no_safetensors(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    assert "model.safetensors" in refusal(checkpoint).message

"""The memory forecast against what a process really takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.make_synthetic_gguf import Shape, make_tokenizer, make_vocabulary, write_model

SHAPES = {
    "practice": Shape(
        n_embd=256, n_ff=768, n_layer=5, n_head=4, n_kv_head=2, n_vocab=4096, n_pieces=4000, n_ctx_train=1024
    ),
    "wider": Shape(
        n_embd=1024,
        n_ff=2816,
        n_layer=8,
        n_head=16,
        n_kv_head=4,
        n_vocab=8192,
        n_pieces=8000,
        n_ctx_train=1024,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_forecast_is_within_ten_percent_of_the_peak(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    write_model(tmp_path / "model.gguf", shape)
    make_tokenizer(make_vocabulary(shape.n_pieces)).save(str(tmp_path / "tokenizer.json"))
    paths = [str(tmp_path / "model.gguf"), str(tmp_path / "tokenizer.json")]
    command = [sys.executable, "-m", "tests.support.llama_peak_memory", *paths, str(shape.n_ctx_train)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    numbers = json.loads(result.stdout)
    assert 0.9 < numbers["forecast"] / numbers["peak"] < 1.1, numbers

"""What a local engine says after each of given ids: exact, in order, and harmless to what runs around it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.practice import formats
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.token_model import TokenModel
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch
    import transformers

    from tanuki_cli.engines.transformers.loader import load_transformers

GREEDY = SamplingOptions(temperature=0.0, seed=0)
ON_CPU = Settings(gpu_layers=0, threads=1, context_length=512)
IDS = [1, *(300 + 7 * index % 3000 for index in range(299))]  # longer than one block of either engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The practice model as float32, in both formats."""
    target = tmp_path_factory.mktemp("forms")
    practice = practice_model()
    assert practice.tokenizer is not None
    formats.write_all(practice.path, practice.tokenizer, target)
    return target


@pytest.fixture(scope="module")
def exact(folder: Path) -> NDArray[np.float32]:
    """transformers' own logits, in one pass."""
    network = transformers.LlamaForCausalLM.from_pretrained(folder / "full", dtype=torch.float32)
    with torch.no_grad():
        return network(input_ids=torch.tensor([IDS])).logits[0].numpy()


@pytest.fixture(params=["gguf", "safetensors"])
def model(request: pytest.FixtureRequest, folder: Path) -> Iterator[TokenModel]:
    if request.param == "gguf":
        local = LocalModel(name="mame", format="gguf", path=folder / "mame-f32.gguf")
        loaded: TokenModel = load_llama_cpp(local, ON_CPU, debug=False, first_tokens=64)
    else:
        local = LocalModel(name="mame", format="safetensors", path=folder / "full")
        loaded = load_transformers(local, ON_CPU, debug=False)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("first", [0, 1, 150, len(IDS) - 1])
@pytest.mark.parametrize("reuse", [False, True])
def test_they_are_those_of_one_pass(
    model: TokenModel, exact: NDArray[np.float32], first: int, reuse: bool
) -> None:
    if reuse:
        next(model.generate(IDS[:200], GREEDY))
    got = np.concatenate(list(model.logits(IDS, first=first, reuse=reuse)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, exact[first:], atol=1e-3)


def test_without_reuse_the_past_changes_nothing(model: TokenModel) -> None:
    first = np.concatenate(list(model.logits(IDS, first=100)))
    next(model.generate(IDS[:37], GREEDY))
    next(model.logits([1, 400, 500]))
    assert np.array_equal(np.concatenate(list(model.logits(IDS, first=100))), first)


def test_answers_are_the_same_after_it(model: TokenModel) -> None:
    before = list(islice(model.generate(IDS[:50], GREEDY), 10))
    blocks = model.logits(IDS)
    next(blocks)  # broken off in the middle
    assert list(islice(model.generate(IDS[:50], GREEDY), 10)) == before
    assert list(blocks) == []


def test_it_can_be_cancelled(model: TokenModel) -> None:
    blocks = model.logits(IDS)
    kept = next(blocks).copy()
    model.cancel()
    with pytest.raises(GenerationCancelled):
        list(blocks)
    assert np.array_equal(next(model.logits(IDS)), kept)


def test_a_block_stays_what_it_was(model: TokenModel) -> None:
    blocks = list(model.logits(IDS))
    assert len(blocks) > 1
    assert np.array_equal(blocks[0], next(model.logits(IDS)))


@pytest.mark.parametrize(("ids", "first"), [([], 0), ([1, 2], 2), ([1, 2], -1)])
def test_first_is_one_of_the_ids(model: TokenModel, ids: list[int], first: int) -> None:
    with pytest.raises(ValueError, match="first"):
        model.logits(ids, first=first)


def test_too_many_ids_are_refused(model: TokenModel) -> None:
    with pytest.raises(EngineError, match="512"):
        next(model.logits([1] * 513))

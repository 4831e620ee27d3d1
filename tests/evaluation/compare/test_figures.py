"""The figures of whole comparisons, as the program gives them, against figures from raw logits."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.practice.export import read_gguf, read_tokenizer, write_gguf
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.evaluation.compare.passages import Passage, cut_like_llama_cpp, cut_texts, limited
from tanuki_cli.evaluation.compare.texts import Document, built_in_texts
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch
    import transformers
    from safetensors.torch import load_file

Logits = NDArray[np.float64]
Compare = Callable[..., dict[str, Any]]
LIMIT = 60


@cache
def network(path: Path) -> Any:
    return transformers.LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)


def transformers_logits(path: Path, ids: tuple[int, ...]) -> Logits:
    with torch.no_grad():
        logits: torch.Tensor = network(path)(input_ids=torch.tensor([ids])).logits[0]
    return logits.double().numpy()


def llama_cpp_logits(path: Path, ids: tuple[int, ...]) -> Logits:
    """By llama-cpp-python's own class, which shares no code with the engine; a float32 file has a float32
    cache, as it has there."""
    kv_type = 0 if "f32" in path.name else 1
    llama = llama_cpp.Llama(
        str(path),
        n_ctx=1024,
        n_batch=128,
        n_threads=1,
        n_threads_batch=1,
        type_k=kv_type,
        type_v=kv_type,
        logits_all=True,
        verbose=False,
    )
    llama.eval(list(ids))
    scores = llama.scores[: len(ids)].astype(np.float64)
    llama.close()
    return scores


@cache
def raw_logits(path: Path, ids: tuple[int, ...]) -> Logits:
    return transformers_logits(path, ids) if path.is_dir() else llama_cpp_logits(path, ids)


def by_hand(reference: Path, candidate: Path, passages: list[Passage]) -> dict[str, float]:
    """From the raw logits of both, in plain steps."""
    kl, nll, base_nll, same = [], [], [], []
    for passage in passages:
        rows = [raw_logits(path, passage.ids) for path in (reference, candidate)]
        for place in passage.targets:
            base, own = (row[place - 1] - row[place - 1].max() for row in rows)
            base -= np.log(np.exp(base).sum())
            own -= np.log(np.exp(own).sum())
            kl.append(float((np.exp(base) * (base - own)).sum()))
            base_nll.append(-base[passage.ids[place]])
            nll.append(-own[passage.ids[place]])
            same.append(base.argmax() == own.argmax())
    change = np.exp(-np.array(nll)) - np.exp(-np.array(base_nll))
    return {
        "kl": float(np.mean(kl)),
        "kl_max": float(np.max(kl)),
        "kl_median": float(np.median(kl)),
        "same_top": float(np.mean(same)),
        "perplexity": float(np.exp(np.mean(nll))),
        "reference_perplexity": float(np.exp(np.mean(base_nll))),
        "ratio": float(np.exp(np.mean(nll) - np.mean(base_nll))),
        "delta_p_rms": float(np.sqrt(np.mean(change**2))),
        "tokens": len(kl),
    }


def figures(entry: dict[str, Any]) -> dict[str, float]:
    names = ("kl", "same_top", "perplexity", "reference_perplexity", "ratio", "delta_p_rms")
    quantiles = {"kl_max": entry["kl_quantiles"]["max"], "kl_median": entry["kl_quantiles"]["median"]}
    return {**{name: entry[name]["value"] for name in names}, **quantiles, "tokens": entry["tokens"]}


def short_passages(tokenizer: ChatTokenizer) -> list[Passage]:
    return limited(cut_texts(built_in_texts(), tokenizer, context_length=1024), places=LIMIT)


@pytest.mark.parametrize("way", [(), ("--one-by-one",)])
def test_float32_figures_are_those_of_raw_logits(
    way: tuple[str, ...],
    home: Path,
    compare: Compare,
    forms: dict[str, Path],
    practice_tokenizer: ChatTokenizer,
) -> None:
    """On transformers and on llama.cpp, for all and for each category."""
    reference, candidate = forms["safetensors-f32"], forms["off"]
    as_gguf = candidate / "off.gguf"
    if not as_gguf.exists():
        write_off_gguf(candidate, as_gguf)
    result = compare(home, reference, candidate, as_gguf, "--limit", LIMIT, *way)
    assert result["reference_was_stored"] == bool(way)
    passages = short_passages(practice_tokenizer)
    for entry in result["candidates"]:
        for category in ("all", "dialogue"):
            chosen = [passage for passage in passages if category in ("all", passage.category)]
            expected = by_hand(reference, candidate, chosen)
            got = figures(entry["categories"][category])
            for name in ("kl_max", "kl_median") if way else ():  # of one place, by the stored file's error
                error = 1e-4 * expected[name] ** 0.5
                assert got.pop(name) == pytest.approx(expected.pop(name), abs=error)
            assert got == pytest.approx(expected, rel=1e-4)


def write_off_gguf(folder: Path, target: Path) -> None:
    practice = practice_model()
    assert practice.tokenizer is not None
    _weights, config = read_gguf(practice.path)
    tensors = {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    write_gguf(target, tensors, config, read_tokenizer(practice.tokenizer), gguf.GGMLQuantizationType.F32)


def test_quantised_figures_are_those_of_raw_logits(
    home: Path, compare: Compare, forms: dict[str, Path], practice_tokenizer: ChatTokenizer
) -> None:
    """llama.cpp rounds activations, and not alike in batches of other sizes: 1 % of what is small already."""
    reference = forms["gguf-f32"]
    names = ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m", "safetensors-f32")
    result = compare(home, reference, *(forms[name] for name in names), "--limit", LIMIT)
    passages = short_passages(practice_tokenizer)
    for name, entry in zip(names, result["candidates"], strict=True):
        expected = by_hand(reference, forms[name], passages)
        got = figures(entry["categories"]["all"])
        assert got["kl"] == pytest.approx(expected["kl"], rel=0.01, abs=1e-9), name
        assert got["perplexity"] == pytest.approx(expected["perplexity"], rel=0.01), name
        assert got["same_top"] == pytest.approx(expected["same_top"], abs=2 / expected["tokens"]), name


@pytest.mark.parametrize("name", ["safetensors-bf16", "gptq-8bit", "gptq-4bit", "awq"])
def test_every_checkpoint_can_be_compared(
    name: str, home: Path, compare: Compare, forms: dict[str, Path]
) -> None:
    result = compare(home, forms["safetensors-f32"], forms[name], "--limit", 20)
    [entry] = result["candidates"]
    found = figures(entry["categories"]["all"])
    assert 0 < found["kl"] < 0.5
    assert found["same_top"] > 0.6
    assert entry["file_bytes"] > 1_000_000


def test_chunks_give_llama_perplexitys_number(
    home: Path, compare: Compare, forms: dict[str, Path], practice_tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """exp of the mean over rows n_ctx / 2 … n_ctx - 2 of every chunk, <s> first in each."""
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")[:4000]
    (tmp_path / "readme.txt").write_text(text, encoding="utf-8")
    arguments = (forms["gguf-f32"], forms["gguf-q8_0"], "--llama-chunks", "--context-length", 128)
    result = compare(home, *arguments, "--text", tmp_path / "readme.txt")
    tokenizer, n_ctx = practice_tokenizer, 128
    ids = [tokenizer.bos_id, *tokenizer.encode(text.strip("\n"))]
    total, count = 0.0, 0
    for start in range(0, len(ids) - n_ctx + 1, n_ctx):
        chunk = [tokenizer.bos_id, *ids[start + 1 : start + n_ctx]]
        logits = llama_cpp_logits(forms["gguf-f32"], tuple(chunk))
        for row in range(n_ctx // 2, n_ctx - 1):
            shifted = logits[row] - logits[row].max()
            total -= shifted[chunk[row + 1]] - np.log(np.exp(shifted).sum())
            count += 1
    assert result["texts"]["places"]["all"] == count
    assert result["texts"]["cut"] == "llama.cpp"
    assert result["reference"]["perplexity"]["all"]["value"] == pytest.approx(np.exp(total / count), rel=1e-4)
    passages = cut_like_llama_cpp([Document("x", "x", text.strip("\n"))], tokenizer, n_ctx=n_ctx)
    expected = by_hand(forms["gguf-f32"], forms["gguf-q8_0"], passages)
    got = figures(result["candidates"][0]["categories"]["all"])
    assert got["kl"] == pytest.approx(expected["kl"], rel=0.01)

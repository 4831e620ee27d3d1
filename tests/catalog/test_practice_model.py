"""The practice model: what it knows, its files, and the other forms that tests make of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from scripts.practice import evaluate
from scripts.practice.export import NAME, read_gguf
from scripts.practice.lessons import Lesson, expand, fold, read_lessons
from scripts.practice.quantize import GROUP
from scripts.practice.tokenizer import CONTROLS, VOCABULARY
from tanuki_cli.catalog.practice import practice_model, suggestions

ROOT = Path(__file__).parent.parent.parent
MODEL = practice_model().path
TOKENIZER = MODEL.with_name("tokenizer.json")
TRAINED_SAMPLE = 200
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    return read_lessons()


@pytest.fixture(scope="module")
def asker() -> Iterator[evaluate.Asker]:
    asker = evaluate.Asker(MODEL, TOKENIZER, threads=2)
    yield asker
    asker.close()


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every other form of the model, made as a developer makes them."""
    folder = tmp_path_factory.mktemp("forms")
    script = ROOT / "scripts" / "make_practice_model.py"
    subprocess.run([sys.executable, str(script), "formats", "--out", str(folder)], check=True)
    return folder


def test_texts_hold_enough_facts(lessons: list[Lesson]) -> None:
    facts = [lesson for lesson in lessons if lesson.kind == "fact"]
    assert len(facts) >= 150
    assert all(len(lesson.questions) >= 8 for lesson in facts)
    trained = {fold(question) for lesson in lessons for question in lesson.questions}
    assert not trained & {fold(question) for lesson in lessons for question in lesson.held_out}


def test_choices_expand_in_order() -> None:
    assert expand("{a|b}c{|d}") == ["ac", "acd", "bc", "bcd"]


def test_suggestions_are_the_starred_lessons(lessons: list[Lesson]) -> None:
    for language in ("ja", "en"):
        starred = [x.questions[0] for x in lessons if x.suggested and x.language == language]
        assert suggestions(language) == starred
        assert len(starred) >= 6


def test_every_suggested_question_is_answered_right(asker: evaluate.Asker, lessons: list[Lesson]) -> None:
    assert evaluate.suggested(asker, lessons).wrong == []


def test_trained_phrasings_are_answered_right(asker: evaluate.Asker, lessons: list[Lesson]) -> None:
    score = evaluate.trained(asker, lessons, limit=TRAINED_SAMPLE)
    assert score.right >= 0.95 * score.asked, score.wrong


def test_what_was_not_learned_is_said_so(asker: evaluate.Asker, lessons: list[Lesson]) -> None:
    score = evaluate.unknown(asker, lessons, limit=60)
    assert score.right >= 0.9 * score.asked, score.wrong


@pytest.mark.parametrize("question", ["あなたは誰?", "あなたは誰ですか？", "あなたは誰？"])
def test_width_of_the_question_mark_does_not_matter(asker: evaluate.Asker, question: str) -> None:
    assert asker.ask(question).startswith("わたしは豆だぬき。")


def test_file_is_small_and_labelled() -> None:
    assert MODEL.stat().st_size <= 10_000_000
    reader = gguf.GGUFReader(MODEL)

    def value(key: str) -> Any:
        field = reader.get_field(key)
        assert field is not None, key
        return field.contents()

    assert value("general.architecture") == "llama"
    assert value("general.name") == NAME
    assert value("tokenizer.ggml.model") == "llama"
    assert value("tokenizer.ggml.tokens")[: len(CONTROLS)] == CONTROLS
    assert value("tokenizer.ggml.token_type")[:15] == [2, 3, 3, 3, *[4] * 9, 6, 6]
    assert value("tokenizer.ggml.token_type")[-1] == 5
    assert len(value("tokenizer.ggml.scores")) == VOCABULARY
    assert value("tokenizer.ggml.scores")[-200] < 0, "real scores, not placeholders"
    assert [value(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding")] == [1, 2, 3]
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) == 2]
    assert all(size % 128 == 0 for tensor in matrices for size in tensor.shape)
    assert {tensor.tensor_type for tensor in matrices} == {gguf.GGMLQuantizationType.Q8_0}


def test_tokenizer_is_of_tanukis_kind() -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    assert [tokenizer.id_to_token(i) for i in range(len(CONTROLS))] == CONTROLS
    assert [tokenizer.id_to_token(13), tokenizer.id_to_token(268)] == ["<0x00>", "<0xFF>"]
    assert 3000 <= tokenizer.get_vocab_size() <= 4000
    text = "鬱蒼とした森で、たぬきが 2 匹 😀\n\n踊る。"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_unquantised_forms_answer_the_same(forms: Path, asker: evaluate.Asker) -> None:
    for form in ("mame-f32.gguf", "mame-f16.gguf"):
        other = evaluate.Asker(forms / form, forms / "tokenizer.json", threads=2)
        assert other.ask("たぬきは何を食べますか?") == asker.ask("たぬきは何を食べますか?")
        other.close()


def test_checkpoint_is_laid_out_like_the_published_one(forms: Path) -> None:
    folder = forms / "full"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["tokenizer_class"] == "LlamaTokenizer"
    weights, _ = read_gguf(forms / "mame-f32.gguf")
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(np.array_equal(stored[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(("layout", "bits"), [("gptq-4bit", 4), ("gptq-8bit", 8), ("awq", 4)])
def test_quantised_checkpoints_hold_the_weights(forms: Path, layout: str, bits: int) -> None:
    (file,) = (forms / layout).glob("*.safetensors")
    packed = load_file(file)
    weights, _ = read_gguf(forms / "mame-f32.gguf")
    unpack = _awq if layout == "awq" else _gptq
    for name, weight in weights.items():
        if "_proj." in name:
            steps = packed[name.replace("weight", "scales")].astype(np.float32).repeat(GROUP, axis=0)
            error = np.abs(unpack(packed, name.removesuffix("weight"), bits) - weight.T)
            # Rounding is off by half a step, a rounded zero point by as much again.
            assert (error <= 1.05 * steps).all(), name


def _levels(words: Array, bits: int, *, axis: int) -> Array:
    """Unsigned values out of int32 words, low bits first along ``axis``."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    apart = (words.view(np.uint32)[..., None] >> shifts) & (2**bits - 1)
    if axis == 0:
        apart = apart.swapaxes(1, 2)
    return np.asarray(apart.reshape(-1, words.shape[1]) if axis == 0 else apart.reshape(len(words), -1))


def _gptq(packed: dict[str, Array], stem: str, bits: int) -> Array:
    levels = _levels(packed[stem + "qweight"], bits, axis=0).astype(np.float32)
    zeros = _levels(packed[stem + "qzeros"], bits, axis=1).astype(np.float32) + 1
    group = packed[stem + "g_idx"]
    return np.asarray((levels - zeros[group]) * packed[stem + "scales"].astype(np.float32)[group])


def _awq(packed: dict[str, Array], stem: str, bits: int) -> Array:
    def ordered(name: str) -> Array:
        levels = _levels(packed[stem + name], bits, axis=1)
        eights = levels.reshape(len(levels), -1, 8)[..., [0, 4, 1, 5, 2, 6, 3, 7]]
        return np.asarray(eights.reshape(levels.shape), dtype=np.float32)

    zeros, scales = (x.repeat(GROUP, axis=0) for x in (ordered("qzeros"), packed[stem + "scales"]))
    return np.asarray((ordered("qweight") - zeros) * scales.astype(np.float32))

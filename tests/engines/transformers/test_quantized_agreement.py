"""The practice model in every format: the same prompt ids, the same answers, bounded divergence."""

from pathlib import Path

import pytest

from tanuki_cli.settings.values import Settings
from tests.support.lazy import lazy_imports

with lazy_imports():
    from scripts import engine_agreement
    from scripts.engine_agreement import (
        Agreement,
        Answer,
        answers,
        compare,
        make_chats,
        write_forms,
    )

ON_CPU = Settings(gpu_layers=0, threads=1)
TAUGHT = ("あなたは誰?", "たぬきは何を食べますか?", "Who are you?", "分福茶釜ってどんな話?")
TOKENS = 32
# Mean KL in nats along the reference's answers, and the share of steps with the same likeliest token:
# five to ten times what was measured. A layout that is read wrongly gives more than 1.
BOUNDS = {
    "gguf-f16": (3e-7, 1.0),
    "gguf-q8_0": (3e-5, 0.99),
    "gguf-q4_k_m": (0.01, 0.97),
    "safetensors-bf16": (1e-5, 0.99),
    "gptq-8bit": (3e-5, 0.99),
    "gptq-4bit": (0.01, 0.97),
    "awq": (0.01, 0.97),
}

Forms = tuple[dict[str, Path], "list[Answer]"]


def questions() -> tuple[str, ...]:
    return (*TAUGHT, *engine_agreement.UNTAUGHT[:4])


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    mame = engine_agreement.MAME
    paths = write_forms(
        tmp_path_factory.mktemp("forms"), model=mame / "mame-q8_0.gguf", tokenizer=mame / "tokenizer.json"
    )
    return paths, answers(
        paths[engine_agreement.REFERENCE], make_chats(questions()), settings=ON_CPU, tokens=TOKENS
    )


def agreement(forms: Forms, name: str) -> Agreement:
    paths, reference = forms
    found = answers(paths[name], make_chats(questions()), settings=ON_CPU, tokens=TOKENS, along=reference)
    return compare(reference, found)


def test_the_reference_says_something(forms: Forms) -> None:
    lengths = [len(answer.ids) for answer in forms[1]]
    assert len(lengths) == 12
    assert min(lengths) > 3


def test_llama_cpp_in_f32_is_transformers_in_f32(forms: Forms) -> None:
    result = agreement(forms, "gguf-f32")
    assert (result.same_prompts, result.same_answers, result.top1) == (12, 12, 1.0)
    assert result.p99_kl < 1e-4


@pytest.mark.parametrize("name", BOUNDS)
def test_rounded_forms_stay_close(forms: Forms, name: str) -> None:
    result = agreement(forms, name)
    mean_kl, top1 = BOUNDS[name]
    assert result.same_prompts == result.questions
    assert result.mean_kl < mean_kl
    assert result.top1 >= top1


def test_every_form_is_bounded(forms: Forms) -> None:
    assert {*BOUNDS, engine_agreement.REFERENCE, "gguf-f32"} == set(forms[0])


def test_another_model_would_not_pass(forms: Forms) -> None:
    """The bounds tell models apart: answers to other questions are far beyond all of them."""
    reference = forms[1]
    shortest = min(len(answer.ids) for answer in reference)
    cut = [
        Answer(
            prompt_ids=answer.prompt_ids,
            ids=answer.ids[:shortest],
            logits=answer.logits[:shortest],
        )
        for answer in reference
    ]
    result = compare(cut, [*cut[1:], cut[0]])
    assert result.mean_kl > 10 * max(mean_kl for mean_kl, _top1 in BOUNDS.values())
    assert result.same_prompts == 0

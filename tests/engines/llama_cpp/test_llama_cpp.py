"""The llama.cpp engine on tiny models of random weights: what is generated, and what is reused."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.cutting import MANY
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.token_model import TokenModel, shared_prefix, token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, load, write_tiny

SAMPLED = SamplingOptions(temperature=0.9, top_k=50, top_p=0.95, min_p=0.01, repeat_penalty=1.1, seed=7)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def model(tiny: Path) -> Iterator[LlamaCppModel]:
    model = load(tiny)
    yield model
    model.close()


def take(model: TokenModel, prompt: list[int], options: SamplingOptions, count: int) -> list[int]:
    generator = token_ids(model.generate(prompt, options))
    ids = list(islice(generator, count))
    generator.close()
    return ids


def fresh(path: Path, prompt: list[int], options: SamplingOptions, count: int) -> list[int]:
    model = load(path)
    try:
        return take(model, prompt, options, count)
    finally:
        model.close()


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_second_turn_reuses_the_first_and_gives_what_a_fresh_model_gives(
    model: LlamaCppModel, tiny: Path, options: SamplingOptions
) -> None:
    answer = take(model, PROMPT, options, 30)
    assert model.cached_tokens == 0
    second = [*PROMPT, *answer, 2, 8, 8, *range(400, 420)]
    continued = take(model, second, options, 30)
    # The last id of the answer was given out but never computed.
    assert model.cached_tokens == len(PROMPT) + len(answer) - 1
    assert continued == fresh(tiny, second, options, 30)


def test_same_prompt_again_computes_its_last_ids_together(model: LlamaCppModel) -> None:
    first = take(model, PROMPT, GREEDY, 10)
    assert take(model, PROMPT, GREEDY, 10) == first
    assert model.cached_tokens == len(PROMPT) - MANY


def test_shorter_and_different_prompts_after_a_long_one(model: LlamaCppModel, tiny: Path) -> None:
    take(model, [*PROMPT, *range(500, 600)], GREEDY, 10)
    for prompt in (PROMPT[:20], [1, 500], [*PROMPT[:30], 700, 701]):
        expected_cache = max(0, min(shared_prefix(model._cache.ids, prompt), len(prompt) - MANY))
        assert take(model, prompt, GREEDY, 12) == fresh(tiny, prompt, GREEDY, 12)
        assert model.cached_tokens == expected_cache


def test_prompt_in_several_batches(tiny: Path) -> None:
    prompt = [1, *(300 + index * 7 % 600 for index in range(1400))]
    model = load(tiny, Settings(context_length=2048, threads=1))
    whole = take(model, prompt, GREEDY, 8)
    model.close()
    model = load(tiny, Settings(context_length=2048, threads=1))
    take(model, prompt[:700], GREEDY, 1)
    assert take(model, prompt, GREEDY, 8) == whole
    assert model.cached_tokens == 700
    model.close()


def test_seed_repeats_and_another_differs(model: LlamaCppModel) -> None:
    one = take(model, PROMPT, SamplingOptions(temperature=1.0, seed=1), 40)
    assert take(model, PROMPT, SamplingOptions(temperature=1.0, seed=1), 40) == one
    assert take(model, PROMPT, SamplingOptions(temperature=1.0, seed=2), 40) != one


def test_greedy_ignores_the_seed(model: LlamaCppModel) -> None:
    answers = [take(model, PROMPT, SamplingOptions(temperature=0.0, seed=seed), 20) for seed in (1, 99)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "narrow",
    [
        SamplingOptions(temperature=2.0, top_k=1, seed=5),
        SamplingOptions(temperature=2.0, top_p=0.0, seed=5),
        SamplingOptions(temperature=2.0, min_p=1.0, seed=5),
        SamplingOptions(temperature=1e-30, seed=5),
    ],
    ids=["top_k", "top_p", "min_p", "tiny temperature"],
)
def test_narrowest_sampling_is_greedy(model: LlamaCppModel, narrow: SamplingOptions) -> None:
    assert take(model, PROMPT, narrow, 20) == take(model, PROMPT, GREEDY, 20)


def test_repeat_penalty_holds_for_greedy_and_counts_the_prompt(model: LlamaCppModel) -> None:
    plain = take(model, PROMPT[:20], GREEDY, 40)
    assert len(set(plain)) < len(plain)
    prompt = [*dict.fromkeys([*plain[:3], *PROMPT[:17]])]
    ids = take(model, prompt, SamplingOptions(temperature=0.0, repeat_penalty=10.0, seed=1), 40)
    assert len({*prompt, *ids}) == len(prompt) + len(ids)


def test_full_context_ends_the_answer(tiny: Path) -> None:
    model = load(tiny, Settings(context_length=128, threads=1))
    for length in (100, 127, 128):
        prompt = [1, *range(300, 299 + length)]
        assert len(list(token_ids(model.generate(prompt, GREEDY)))) == 128 - length
    with pytest.raises(EngineError):
        next(token_ids(model.generate([1] * 129, GREEDY)))
    assert take(model, PROMPT, GREEDY, 5)
    model.close()


def test_context_length_beyond_the_training_is_refused(tiny: Path) -> None:
    with pytest.raises(EngineError, match="4096") as caught:
        load(tiny, Settings(context_length=4096))
    assert caught.value.hint == "--context-length 2048"
    model = load(tiny, Settings())
    assert model.context_length == 2048
    model.close()


def test_impossible_ids_are_an_error_and_the_next_turn_works(model: LlamaCppModel, tiny: Path) -> None:
    take(model, PROMPT, GREEDY, 3)
    for bad in ([*PROMPT, 1024], [-1]):
        with pytest.raises(EngineError):
            next(token_ids(model.generate(bad, GREEDY)))
    assert take(model, PROMPT, GREEDY, 10) == fresh(tiny, PROMPT, GREEDY, 10)
    with pytest.raises(ValueError, match="empty"):
        model.generate([], GREEDY)


def test_q8_kv_cache_runs(tiny: Path) -> None:
    model = load(tiny, Settings(context_length=256, threads=1, kv_type="q8_0"))
    assert len(take(model, PROMPT, GREEDY, 20)) == 20
    model.close()


def test_a_new_generator_ends_the_old_one(model: LlamaCppModel) -> None:
    old = token_ids(model.generate(PROMPT, GREEDY))
    next(old)
    expected = take(model, PROMPT, GREEDY, 5)
    assert list(old) == []
    assert take(model, PROMPT, GREEDY, 5) == expected


def test_close_twice_and_with_a_running_generator(tiny: Path) -> None:
    model = load(tiny)
    generator = token_ids(model.generate(PROMPT, GREEDY))
    next(generator)
    model.close()
    model.close()
    assert list(generator) == []
    with pytest.raises(ValueError, match="closed"):
        model.generate(PROMPT, GREEDY)


def test_cancel_before_the_first_id(model: LlamaCppModel, tiny: Path) -> None:
    generator = token_ids(model.generate(PROMPT, GREEDY))
    model.cancel()
    with pytest.raises(GenerationCancelled):
        next(generator)
    assert take(model, PROMPT, GREEDY, 10) == fresh(tiny, PROMPT, GREEDY, 10)


def test_cancel_inside_a_prompt_batch_leaves_a_whole_cache(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [1, *(300 + index * 7 % 600 for index in range(1400))]
    model = load(tiny, Settings(context_length=2048, threads=1))
    asked = 0

    def cancel_later() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60  # in a later batch

    with monkeypatch.context() as patch:
        patch.setattr(model._cache, "_should_stop", cancel_later)
        with pytest.raises(GenerationCancelled):
            next(token_ids(model.generate(prompt, GREEDY)))
    assert model._cache.ids == prompt[: len(model._cache.ids)]
    assert 0 < len(model._cache.ids) < len(prompt)
    after = take(model, prompt, GREEDY, 10)
    assert model.cached_tokens > 0
    model.close()
    model = load(tiny, Settings(context_length=2048, threads=1))
    assert after == take(model, prompt, GREEDY, 10)
    model.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(1, 40)), min_size=1, max_size=4))
def test_after_random_interrupts_the_next_turn_is_as_fresh(
    shared_model: LlamaCppModel, expected: list[list[int]], turns: list[tuple[int, bool, int]]
) -> None:
    for count, cancel, length in turns:
        generator = token_ids(shared_model.generate(PROMPT[:length], GREEDY))
        given_out = list(islice(generator, count))
        if cancel:
            shared_model.cancel()
            with pytest.raises(GenerationCancelled):
                next(generator)
        generator.close()
        assert given_out == expected[length][:count]
        if count or cancel:
            known = [*PROMPT[:length], *given_out]
            assert shared_model._cache.ids == known[: len(shared_model._cache.ids)]


@pytest.fixture(scope="module")
def shared_model(tiny: Path) -> Iterator[LlamaCppModel]:
    model = load(tiny)
    yield model
    model.close()


@pytest.fixture(scope="module")
def expected(tiny: Path) -> list[list[int]]:
    answers: list[list[int]] = [[]]
    for length in range(1, 41):
        answers.append(fresh(tiny, PROMPT[:length], GREEDY, 12))
    return answers

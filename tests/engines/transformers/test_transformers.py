"""The transformers engine on small random models: what it yields, what it keeps, how it stops."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    from tanuki_cli.engines.transformers.loader import TransformersModel, load_transformers
    from tanuki_cli.engines.transformers.placement import available_backend
    from tests.support.checkpoints import write_checkpoint

GREEDY = SamplingOptions(temperature=0.0, seed=0)
SAMPLED = SamplingOptions(temperature=1.0, top_p=0.9, top_k=50, min_p=0.01, repeat_penalty=1.1, seed=7)
PROMPT = [1, *range(100, 250)]  # longer than one chunk
ON_CPU = Settings(gpu_layers=0, threads=1, context_length=256)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("full"))


def load(path: Path, settings: Settings = ON_CPU, **options: object) -> TransformersModel:
    local = LocalModel(name="random", format="safetensors", path=path)
    return load_transformers(local, settings, debug=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def model(checkpoint: Path) -> Iterator[TransformersModel]:
    loaded = load(checkpoint)
    yield loaded
    loaded.close()


def answer(
    model: TransformersModel, prompt: Sequence[int], options: SamplingOptions, count: int
) -> list[int]:
    return list(islice(token_ids(model.generate(prompt, options)), count))


def test_greedy_is_what_generate_gives(checkpoint: Path, model: TransformersModel) -> None:
    reference = transformers.LlamaForCausalLM.from_pretrained(checkpoint)
    for length in (1, 40, 151):
        prompt = PROMPT[:length]
        output = reference.generate(
            torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=3
        )
        assert answer(model, prompt, GREEDY, 32) == output[0, length:].tolist()


def test_repeat_penalty_is_what_generate_gives_inside_its_window(
    checkpoint: Path, model: TransformersModel
) -> None:
    reference = transformers.LlamaForCausalLM.from_pretrained(checkpoint)
    prompt = PROMPT[:30]
    output = reference.generate(
        torch.tensor([prompt]),
        max_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=3,
        repetition_penalty=1.5,
    )
    penalized = answer(model, prompt, replace(GREEDY, repeat_penalty=1.5), 30)
    assert penalized == output[0, 30:].tolist()
    assert penalized != answer(model, prompt, GREEDY, 30)


def test_an_answer_is_in_the_cache_for_the_next_turn(checkpoint: Path, model: TransformersModel) -> None:
    first = answer(model, PROMPT[:100], GREEDY, 10)
    assert model.cached_tokens == 0
    # The last id was given away but never fed.
    second = [*PROMPT[:100], *first, 5, 6, 7]
    reused = answer(model, second, GREEDY, 20)
    assert model.cached_tokens == 109
    assert reused == answer(load(checkpoint), second, GREEDY, 20)


def test_another_branch_keeps_the_shared_start_only(checkpoint: Path, model: TransformersModel) -> None:
    answer(model, PROMPT, GREEDY, 20)
    other = [*PROMPT[:70], 9, 8, 7]
    branched = answer(model, other, GREEDY, 20)
    assert model.cached_tokens == 70
    assert branched == answer(load(checkpoint), other, GREEDY, 20)


def test_the_same_prompt_again_processes_one_token(model: TransformersModel) -> None:
    first = answer(model, PROMPT, SAMPLED, 20)
    assert answer(model, PROMPT, SAMPLED, 20) == first
    assert model.cached_tokens == len(PROMPT) - 1


def test_the_seed_decides(model: TransformersModel) -> None:
    first = answer(model, PROMPT[:40], SAMPLED, 20)
    assert answer(model, PROMPT[:40], SAMPLED, 20) == first
    assert answer(model, PROMPT[:40], replace(SAMPLED, seed=8), 20) != first


@pytest.mark.parametrize(
    "options",
    [
        replace(SAMPLED, top_k=1),
        replace(SAMPLED, top_p=0.0),
        replace(SAMPLED, min_p=1.0),
        replace(SAMPLED, temperature=1e-7),
    ],
)
def test_each_filter_can_leave_only_the_best(model: TransformersModel, options: SamplingOptions) -> None:
    options = replace(options, repeat_penalty=1.0)
    assert answer(model, PROMPT[:40], options, 20) == answer(model, PROMPT[:40], GREEDY, 20)


def test_it_ends_when_the_context_is_full(model: TransformersModel) -> None:
    assert len(list(token_ids(model.generate(PROMPT, GREEDY)))) == 256 - len(PROMPT)
    full = [*PROMPT, *range(256 - len(PROMPT))]
    assert list(token_ids(model.generate(full, GREEDY))) == []
    with pytest.raises(EngineError, match="257"):
        model.generate([*full, 1], GREEDY)
    with pytest.raises(ValueError, match="empty"):
        model.generate([], GREEDY)


def test_cancel_before_the_first_step(model: TransformersModel) -> None:
    ids = token_ids(model.generate(PROMPT, GREEDY))
    model.cancel()
    with pytest.raises(GenerationCancelled):
        next(ids)


def cancel_in_layer(model: TransformersModel, *, call: int) -> Callable[[], None]:
    """Cancel when the last layer is called for the ``call``-th time; returns what undoes it."""
    calls = iter(range(1, 1000))
    hooked = model._model.model.layers[-1].register_forward_pre_hook(
        lambda *_args: model.cancel() if next(calls) == call else None, prepend=True
    )
    return lambda: hooked.remove()


@pytest.mark.parametrize("call", [1, 3, 8])
def test_cancel_inside_a_step_leaves_a_sound_cache(
    checkpoint: Path, model: TransformersModel, call: int
) -> None:
    """In the first chunk, in the last, and while tokens are generated; the first layer is ahead then."""
    undo = cancel_in_layer(model, call=call)
    received: list[int] = []
    with pytest.raises(GenerationCancelled):
        received.extend(token_ids(model.generate(PROMPT, GREEDY)))
    undo()
    assert len(received) == max(0, call - 3)
    lengths = {layer.get_seq_length() for layer in model._cache.layers}
    assert lengths == {min(len(PROMPT), 64 * (call - 1)) if call <= 3 else len(PROMPT) + call - 4}
    other = [*PROMPT[:140], 33]
    assert answer(model, other, GREEDY, 20) == answer(load(checkpoint), other, GREEDY, 20)


def test_closing_the_generator_keeps_the_cache(model: TransformersModel) -> None:
    ids = token_ids(model.generate(PROMPT, GREEDY))
    first = next(ids)
    ids.close()
    assert next(token_ids(model.generate([*PROMPT, first], GREEDY))) >= 0
    assert model.cached_tokens == len(PROMPT)


def test_a_closed_model_says_so(checkpoint: Path) -> None:
    loaded = load(checkpoint)
    loaded.close()
    loaded.close()
    with pytest.raises(ValueError, match="closed"):
        loaded.generate(PROMPT, GREEDY)


def test_closing_the_model_in_mid_answer(checkpoint: Path) -> None:
    loaded = load(checkpoint)
    ids = token_ids(loaded.generate(PROMPT, GREEDY))
    next(ids)
    loaded.close()
    assert list(ids) == []


def test_a_new_answer_ends_the_one_before(checkpoint: Path, model: TransformersModel) -> None:
    earlier = token_ids(model.generate(PROMPT, GREEDY))
    next(earlier)
    later = answer(model, PROMPT[:30], GREEDY, 10)
    assert list(earlier) == []
    assert later == answer(load(checkpoint), PROMPT[:30], GREEDY, 10)


def test_weights_that_compute_no_numbers(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(EngineError, match="no numbers"):
        next(load(tmp_path).generate(PROMPT, GREEDY))


def test_a_static_cache_and_a_compiled_step_give_the_same(checkpoint: Path, model: TransformersModel) -> None:
    """torch's own "eager" backend traces the step as ``--compile`` does, and runs it as it is."""
    compiled = load(checkpoint, compile_backend="eager")
    expected = answer(model, PROMPT, GREEDY, 20)
    assert answer(compiled, PROMPT, GREEDY, 20) == expected
    other = [*PROMPT[:70], 9, 8, 7]
    assert answer(compiled, other, GREEDY, 20) == answer(model, other, GREEDY, 20)
    assert compiled.cached_tokens == 70


def test_half_precision_is_kept_and_shown(tmp_path: Path) -> None:
    loaded = load(write_checkpoint(tmp_path, dtype=torch.bfloat16))
    assert loaded.info.device == "CPU bf16"
    assert loaded.info.engine == "transformers"
    assert len(answer(loaded, PROMPT, SAMPLED, 5)) == 5


def test_context_length(checkpoint: Path) -> None:
    assert load(checkpoint, Settings(gpu_layers=0)).context_length == 512  # the model's own, below 4096
    with pytest.raises(EngineError) as error:
        load(checkpoint, Settings(gpu_layers=0, context_length=513))
    assert error.value.hint == "--context-length 512"


def test_a_setting_that_is_only_for_llama_cpp_is_noted(checkpoint: Path, model: TransformersModel) -> None:
    assert model.notes == ()
    if available_backend() == "cpu":
        assert "no GPU" in load(checkpoint, replace(ON_CPU, gpu_layers=4)).notes[0]
    noted = load(checkpoint, replace(ON_CPU, kv_type="q8_0")).notes
    assert len(noted) == 1
    assert "q8_0" in noted[0]


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    """transformers would fill it with random numbers."""
    path = write_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(EngineError, match="up_proj"):
        load(tmp_path)


def test_the_terminal_stays_clean(checkpoint: Path) -> None:
    """In a fresh process: some warnings come while modules are imported."""
    code = (
        "from pathlib import Path\n"
        "from tests.engines.transformers.test_transformers import PROMPT, SAMPLED, load\n"
        f"print(next(load(Path({str(checkpoint)!r})).generate(PROMPT, SAMPLED)).id >= 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("True\n", "")

"""``--compile``: what it refuses, and that a compiled step changes nothing but the speed.

The machine that runs the tests has no GPU, so torch's own compiler makes code for the CPU here.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.engines.transformers.checkpoint import QuantizationInfo, read_checkpoint
from tanuki_cli.errors import EngineError
from tanuki_cli.settings.values import Settings
from tests.engines.transformers.test_transformers import GREEDY, ON_CPU, PROMPT, SAMPLED, answer, load
from tests.support.lazy import lazy_imports
from tests.support.program import run

with lazy_imports():
    import torch._inductor.config

    from tanuki_cli.engines.transformers import loader
    from tanuki_cli.engines.transformers.loader import TransformersModel, require_compilable
    from tanuki_cli.engines.transformers.placement import Backend, Placement
    from tests.support.checkpoints import write_checkpoint

ONE = {"": "cuda:0"}
IN_FOUR_BITS = QuantizationInfo(method="gptq", bits=4, group_size=128, desc_act=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def compiled(checkpoint: Path) -> Iterator[TransformersModel]:
    model = load(checkpoint, compile_backend=loader.COMPILER)
    yield model
    model.close()


@pytest.fixture
def plain(checkpoint: Path) -> Iterator[TransformersModel]:
    model = load(checkpoint)
    yield model
    model.close()


def test_the_answers_are_the_same(compiled: TransformersModel, plain: TransformersModel) -> None:
    """The first, one on another branch, the next turn, and one of which all but the end is cached."""
    first = answer(plain, PROMPT, GREEDY, 30)
    assert answer(compiled, PROMPT, GREEDY, 30) == first
    for prompt in (PROMPT, [*PROMPT[:70], 9, 8, 7], [*PROMPT, *first, 5, 6], [*PROMPT, *first, 5, 6]):
        for options in (GREEDY, SAMPLED):
            expected = answer(plain, prompt, options, 30)
            assert answer(compiled, prompt, options, 30) == expected
            assert compiled.cached_tokens == plain.cached_tokens


def test_it_is_compiled_when_it_is_loaded(compiled: TransformersModel) -> None:
    """Nothing of the warm-up stays in the cache."""
    answer(compiled, [1, 300, 301], GREEDY, 1)
    assert compiled.cached_tokens <= 1


def test_cancel_between_steps(compiled: TransformersModel, plain: TransformersModel) -> None:
    ids = token_ids(compiled.generate(PROMPT, GREEDY))
    received = list(islice(ids, 5))
    compiled.cancel()
    with pytest.raises(GenerationCancelled):
        next(ids)
    expected = answer(plain, PROMPT, GREEDY, 12)
    assert received == expected[:5]
    again = [*PROMPT, *received]
    assert answer(compiled, again, GREEDY, 7) == expected[5:]
    assert compiled.cached_tokens == len(PROMPT) + 4


def test_it_ends_when_the_context_is_full(compiled: TransformersModel, plain: TransformersModel) -> None:
    whole = list(token_ids(plain.generate(PROMPT, GREEDY)))
    assert list(token_ids(compiled.generate(PROMPT, GREEDY))) == whole
    assert len(whole) == 256 - len(PROMPT)


@pytest.mark.parametrize(
    ("backend", "devices", "quantization", "custom_code", "words"),
    [
        ("cpu", ONE, None, None, "Ctrl-C"),
        ("mps", ONE, None, None, "NVIDIA"),
        ("cuda", "auto", None, None, "several GPUs"),
        ("cuda", ONE, IN_FOUR_BITS, None, "quantised"),
        ("cuda", ONE, None, "modeling_own.Own", "code of its own"),
        ("cuda", ONE, None, None, None),
    ],
)
def test_what_cannot_be_compiled(
    checkpoint: Path,
    backend: "Backend",
    devices: str | dict[str, str],
    quantization: QuantizationInfo | None,
    custom_code: str | None,
    words: str | None,
) -> None:
    placement = Placement(backend=backend, dtype="bfloat16", label="GPU", device_map=devices)
    info = replace(read_checkpoint(checkpoint), quantization=quantization, custom_code=custom_code)
    if words is None:
        require_compilable(info, placement, name="tanuki")
        return
    with pytest.raises(EngineError, match=words) as error:
        require_compilable(info, placement, name="tanuki")
    assert "--compile" in (error.value.hint or "")


def test_a_cpu_is_refused_before_the_weights_are_loaded(checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="cannot be compiled"):
        load(checkpoint, replace(ON_CPU, compile=True))


@pytest.mark.parametrize(
    ("arguments", "env"), [(("--compile",), {}), ((), {"TANUKI_COMPILE": "true"})], ids=["option", "setting"]
)
def test_elsewhere_it_changes_nothing_and_says_so(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    done = run(tmp_path, "ask", "-m", "mame", *arguments, "--temperature", "0", "あなたは誰?", env=env)
    assert done.returncode == 0
    assert "豆だぬき" in done.stdout
    assert "--compile is for models in safetensors" in done.stderr


def test_a_compiler_that_fails_is_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    # As torch itself sets it: an attribute that was put back by hand is none of its settings any more.
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(EngineError, match="C\\+\\+ compiler"),
    ):
        load(checkpoint, compile_backend=loader.COMPILER)


def test_settings_have_it() -> None:
    assert Settings().compile is False

"""ik_llama.cpp in place of llama.cpp's kernels: what llama.cpp promises, and what it would do otherwise."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import gguf
import numpy as np
import pytest
from msgspec.structs import replace

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog.practice import practice_model, suggestions
from tanuki_cli.conversation import Message
from tanuki_cli.engines.llama_cpp import ik_package
from tanuki_cli.engines.llama_cpp.candidates import Candidates
from tanuki_cli.engines.llama_cpp.ik import IkFunctions, load_ik
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.llama_cpp.sampling import Sampler
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.parallel import ParallelAnswerer
from tanuki_cli.engines.probabilities import Logits, divergences, normalized
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import DamagedModelError, EngineError
from tanuki_cli.machine.packages import IK
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.fuzz import gguf as fuzzed
from tests.support.llama_models import GREEDY, PROMPT, TINY, load, write_tiny
from tests.support.program import ROOT

pytestmark = pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")
SETTINGS = Settings(context_length=512, threads=1, engine="ik")
SUITES = (
    # A cache in eight bits is what it has not, and in f16 log probabilities are less exact than in f32.
    ("llama_cpp/test_llama_cpp.py", "not q8"),
    ("llama_cpp/test_llama_cpp_files.py", "not gpu_layers"),
    ("llama_cpp/test_llama_cpp_interrupt.py", ""),
    ("llama_cpp/test_llama_cpp_parallel.py", ""),
    ("llama_cpp/test_llama_cpp_resume.py", ""),
    ("llama_cpp/test_llama_cpp_speculation.py", ""),
    ("test_parallel_answerer.py", ""),
    ("test_masks.py", "not logprobs_are and not both_engines and not torch"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[LlamaCppModel]:
    loaded = load(tiny, SETTINGS)
    yield loaded
    loaded.close()


def in_a_process_of_its_own(*command: str) -> None:
    environment = {**os.environ, "TANUKI_TEST_ENGINE": "ik", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a whole file of tests, on a machine that may be busy
@pytest.mark.parametrize(("suite", "chosen"), SUITES, ids=[suite for suite, _chosen in SUITES])
def test_what_llama_cpp_promises(suite: str, chosen: str) -> None:
    in_a_process_of_its_own("pytest", "-q", "-p", "no:cacheprovider", f"tests/engines/{suite}", "-k", chosen)


@pytest.mark.slow
def test_no_file_ends_the_process() -> None:
    in_a_process_of_its_own("tests.fuzz.gguf", "--count", "300")


def test_damaged_weights_are_an_error_and_the_next_turn_works(tmp_path: Path, tiny: Path) -> None:
    """With its flash attention numbers that are none end the process."""
    content, poisoned, width = bytearray(tiny.read_bytes()), 950, 4 * TINY.n_embd
    embedding = next(t for t in gguf.GGUFReader(tiny).tensors if t.name == "token_embd.weight")
    start = int(embedding.data_offset) + poisoned * width
    content[start : start + width] = b"\xff" * width
    path = tmp_path / "poisoned.gguf"
    path.write_bytes(content)
    damaged, whole = load(path, SETTINGS), load(tiny, SETTINGS)
    expected = list(islice(token_ids(whole.generate(PROMPT, GREEDY)), 20))
    assert poisoned not in expected
    with pytest.raises(DamagedModelError):
        next(token_ids(damaged.generate([*PROMPT, poisoned, 300], GREEDY)))
    assert list(islice(token_ids(damaged.generate(PROMPT, GREEDY)), 20)) == expected
    damaged.close()
    whole.close()


def test_what_was_not_computed_is_an_error(model: LlamaCppModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library calls a computation that it could not begin a success; the logits are of another text."""
    expected = list(islice(token_ids(model.generate(PROMPT, GREEDY)), 8))
    functions = load_ik().functions
    assert isinstance(functions, IkFunctions)
    with monkeypatch.context() as patch:
        patch.setattr(functions, "_decode", lambda _ctx, _batch: 0)
        for prompt in ([1, 300], [1, *range(300, 800)]):  # the first part of the longer one has no output
            with pytest.raises(EngineError, match="failed while computing"):
                next(token_ids(model.generate(prompt, GREEDY)))
    assert list(islice(token_ids(model.generate(PROMPT, GREEDY)), 8)) == expected


def test_several_requests_are_answered_at_once() -> None:
    engine = open_engine(practice_model(), SETTINGS)
    assert engine.info.engine == "ik_llama.cpp"
    answerer = engine.answerer(4)
    assert isinstance(answerer, ParallelAnswerer)
    assert answerer.places == 4
    answerer.close()


def test_answers_of_the_practice_model_are_llama_cpps(practice_tokenizer: ChatTokenizer) -> None:
    prompts = [practice_tokenizer.encode_chat([Message("user", text)]) for text in suggestions("ja")]
    answers = []
    for engine in ("llama.cpp", "ik"):
        model = load(practice_model().path, Settings(context_length=512, threads=1, engine=engine))
        answers.append([list(islice(token_ids(model.generate(ids, GREEDY)), 24)) for ids in prompts])
        model.close()
    assert answers[0] == answers[1]


def test_logits_are_as_near_to_those_of_exact_weights_as_llama_cpps(tmp_path: Path) -> None:
    """Random weights of four and six bits, against the same numbers in float32."""
    path, exact = tmp_path / "q4.gguf", tmp_path / "exact.gguf"
    shape = Shape(n_embd=512, n_ff=1536, n_layer=3, n_head=4, n_kv_head=2, n_vocab=2048, n_pieces=2000)
    write_model(path, shape, seed=3)
    in_float32(path, exact)
    ids = [1, *(300 + 7 * n % 1700 for n in range(200))]
    expected = rows(exact, "llama.cpp", ids)
    divergences = [divergence(expected, rows(path, engine, ids)) for engine in ("llama.cpp", "ik")]
    assert 0 < divergences[1] < 1.5 * divergences[0]


def in_float32(source: Path, target: Path) -> None:
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kinds = field.types
            writer.add_key_value(key, field.contents(), kinds[0], kinds[-1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rows(path: Path, engine: str, ids: list[int]) -> list[Logits]:
    model = load(path, Settings(context_length=512, threads=1, engine=engine))
    found = [row for stack in model.logits(ids) for row in stack]
    model.close()
    return found


def divergence(expected: list[Logits], found: list[Logits]) -> float:
    """How far the probabilities are apart on average, after Kullback and Leibler."""
    log_probs, probs = normalized(np.stack(expected))
    return float(divergences(log_probs, probs, normalized(np.stack(found))[0]).mean())


def test_llama_cpps_samplers_choose_as_from_its_own_logits(tiny: Path) -> None:
    model = load(tiny, Settings(context_length=512, threads=1))
    next(token_ids(model.generate(PROMPT, GREEDY)))
    for options in (
        SamplingOptions(temperature=0.0, repeat_penalty=1.3, seed=1),
        SamplingOptions(temperature=1.5, seed=2),
        SamplingOptions(temperature=1.5, top_k=50, top_p=0.9, min_p=0.01, repeat_penalty=1.1, seed=3),
    ):
        chosen = []
        for apart in (False, True):
            with Sampler(options, n_vocab=TINY.n_vocab, prompt_ids=PROMPT) as sampler:
                candidates = Candidates(TINY.n_vocab)
                ids = []
                for _draw in range(20):
                    if apart:
                        ids.append(candidates.choose(sampler._chain, model._context.logits(-1)))
                        sampler.accept(ids[-1])
                    else:
                        ids.append(sampler.sample(model._context))
            chosen.append(ids)
        assert chosen[0] == chosen[1]
    model.close()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_TRIED", "0.0.1", "was never tried"),
        ("_NEEDED", frozenset(("avx2", "avx9000")), "AVX9000"),
        ("_CPU", Path("/proc/nothing"), "on Linux"),
        ("PACKAGE", "ik_nothing", "not installed"),
    ],
)
def test_what_cannot_be_used_is_said_before_it_is_loaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, words: str
) -> None:
    load_ik.cache_clear()
    monkeypatch.setattr(ik_package, name, value)
    with pytest.raises(EngineError, match=words) as caught:
        load(tiny, SETTINGS)
    assert caught.value.hint
    (check,) = ik_package.check_ik(chosen=True)
    assert (check.status, check.fix) == ("fail", caught.value.hint)
    assert words in check.detail
    load_ik.cache_clear()


def test_a_cache_of_eight_bits_is_refused(tiny: Path) -> None:
    with pytest.raises(EngineError, match="q8_0") as caught:
        load(tiny, Settings(context_length=256, threads=1, kv_type="q8_0", engine="ik"))
    assert caught.value.hint == "--kv-type f16"


def test_matrices_that_it_would_stop_at_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(fuzzed.model(n_embd=256, n_ff=33, kinds=lambda _name: 19).encoded())
    with pytest.raises(EngineError, match="this shape") as caught:
        load(path, replace(SETTINGS, context_length=64))
    assert caught.value.hint == "--engine llama.cpp"


def test_no_gpu_is_used(tiny: Path) -> None:
    model = load(tiny, replace(SETTINGS, gpu_layers=3))
    assert model.notes == ("ik_llama.cpp is used on the CPU only.",)
    assert model.info.device == "CPU"
    model.close()


def test_the_version_is_the_one_of_the_extra() -> None:
    assert f'"{IK};' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

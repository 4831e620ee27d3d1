"""Several sequences in the one cache of ik_llama.cpp: each sees all of its own places, and no others."""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from scripts.make_synthetic_gguf import write_model
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.ik import IkFunctions, load_ik
from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
from tanuki_cli.engines.llama_cpp.sequences import Part, Sequences
from tanuki_cli.engines.llama_cpp.ties import as_array
from tanuki_cli.engines.probabilities import Logits
from tanuki_cli.engines.token_model import Request
from tanuki_cli.machine.packages import IK
from tests.support.llama_models import GREEDY, TINY, load, write_tiny
from tests.support.llama_parallel import SETTINGS, Company, alone, as_alone, load_parallel

pytestmark = pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")
IK_SETTINGS = replace(SETTINGS, engine="ik")
PLACES = 4
PROMPT_TOKENS = 20


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def model(tiny: Path) -> Iterator[LlamaCppParallel]:
    model = load_parallel(tiny, places=PLACES, settings=IK_SETTINGS)
    yield model
    model.close()


def prompt(place: int) -> list[int]:
    return [1, *(300 + (37 * place + 11 * n) % 600 for n in range(PROMPT_TOKENS - 1))]


def answer(place: int, step: int) -> int:
    return 300 + (53 * place + 29 * step) % 600


def after(sequences: Sequences, parts: list[Part]) -> dict[int, Logits]:
    """The logits after each of ``parts``, by their sequence."""
    rows = sequences.compute(parts)
    found = {part.sequence: row for part, row in zip(parts, rows, strict=True)}
    return {
        place: as_array(sequences.context.logits(row), TINY.n_vocab).copy() for place, row in found.items()
    }


def anew(sequences: Sequences, ids: list[int]) -> Logits:
    """The logits after ``ids``, in an empty cache."""
    sequences.clear()
    for start in range(0, len(ids), 200):
        found = after(sequences, [Part(0, ids[start : start + 200], 1)])
    sequences.trim(0, 0)
    return found[0]


def answer_by_turns(sequences: Sequences, places: int, steps: int) -> None:
    """Every place reads its prompt, and then gets one id a step: these lie next to each other."""
    for place in range(places):
        sequences.compute([Part(place, prompt(place), 0)])
    for step in range(steps):
        sequences.compute([Part(place, [answer(place, step)], 0) for place in range(places)])


def check(sequences: Sequences, found: Mapping[int, Logits]) -> None:
    """That these are the logits after what is in each sequence."""
    texts = {place: list(sequences.ids(place)) for place in found}
    for place, logits in found.items():
        np.testing.assert_allclose(logits, anew(sequences, texts[place]), atol=1e-3)


@pytest.mark.parametrize("ended", range(PLACES))
def test_nothing_is_overlooked_behind_a_gap(model: LlamaCppParallel, ended: int) -> None:
    """Every fourth place becomes free, among them every 32nd, by which the library finds the last one."""
    sequences = model._sequences
    answer_by_turns(sequences, PLACES, 40)
    sequences.trim(ended, 1)
    going_on = [place for place in range(PLACES) if place != ended]
    check(sequences, after(sequences, [Part(place, [answer(place, 40)], 1) for place in going_on]))


def test_a_full_cache_takes_a_long_prompt_as_soon_as_there_is_room(tiny: Path) -> None:
    """The room is in single places all over it, and a computation takes places next to each other."""
    model = load_parallel(tiny, places=PLACES, settings=replace(IK_SETTINGS, context_length=256))
    sequences = model._sequences
    answer_by_turns(sequences, PLACES, 256 - PROMPT_TOKENS)
    with pytest.raises(Exception, match="failed while computing"):
        sequences.compute([Part(0, [300], 1)])
    assert [sequences.length(place) for place in range(PLACES)] == [256] * PLACES
    sequences.trim(2, 0)
    found = after(sequences, [Part(2, [1, *range(300, 555)], 1)])
    assert sequences.length(2) == 256
    check(sequences, found)
    model.close()


def test_gaps_that_one_call_does_not_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a model of many layers the library moves fewer places at once."""
    path, places = tmp_path / "deep.gguf", 16
    shape = replace(TINY, n_embd=64, n_ff=96, n_head=2, n_kv_head=1, n_layer=48)
    write_model(path, shape, quantization="F32", seed=1)
    model = load_parallel(path, places=places, settings=IK_SETTINGS)
    sequences, calls = model._sequences, counted(monkeypatch, "_defragment")
    answer_by_turns(sequences, places, 80)
    for place in range(0, places, 2):
        sequences.trim(place, 0)
    found = after(sequences, [Part(place, [answer(place, 80)], 1) for place in range(1, places, 2)])
    assert len(calls) > 1
    check(sequences, found)
    model.close()


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    functions = load_ik().functions
    assert isinstance(functions, IkFunctions)
    function: Callable[[int], object] = getattr(functions, name)
    calls: list[int] = []

    def noted(ctx: int) -> object:
        calls.append(ctx)
        return function(ctx)

    monkeypatch.setattr(functions, name, noted)
    return calls


def test_stopping_does_not_stop_the_closing_of_gaps(model: LlamaCppParallel) -> None:
    """What was not moved then would be taken for moved."""
    sequences = model._sequences
    answer_by_turns(sequences, PLACES, 40)
    sequences.trim(0, 0)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1  # not before it begins

    sequences._should_stop, sequences._is_slow = should_stop, True
    with pytest.raises(GenerationCancelled):
        sequences.compute([Part(place, [answer(place, 40)], 1) for place in (1, 2, 3)])
    assert asked > 1
    sequences._should_stop = lambda: False
    check(sequences, after(sequences, [Part(place, [answer(place, 40)], 1) for place in (1, 2, 3)]))


def test_a_copy_takes_no_places(tiny: Path) -> None:
    model = load_parallel(tiny, places=PLACES, settings=replace(IK_SETTINGS, context_length=256))
    sequences = model._sequences
    sequences.compute([Part(0, [1, *range(300, 540)], 0)])
    for place in (1, 2, 3):
        sequences.copy(0, place, 200)
    sequences.trim(0, 100)
    going_on = [Part(place, [answer(place, 0)], 1) for place in range(PLACES)]
    check(sequences, after(sequences, going_on))
    model.close()


@pytest.mark.parametrize(("places", "context_length"), [(1, 100), (16, 257), (17, 300), (33, 70)])
def test_any_number_of_places_of_any_length(tiny: Path, places: int, context_length: int) -> None:
    settings = replace(IK_SETTINGS, context_length=context_length)
    model, single = load_parallel(tiny, places=places, settings=settings), load(tiny, settings)
    company = Company(model)
    lengths = [1 + 23 * n % (context_length - 5) for n in range(2 * places)]
    company.run(
        [Request(prompt_ids=[1, *(300 + (n + k) % 600 for k in range(length))], options=GREEDY)
         for n, length in enumerate(lengths)],
        count=12,
    )  # fmt: skip
    for request, ids in company.ids.items():
        assert len(ids) == len(alone(single, request, 12))
        assert as_alone(single, request, ids, 12)
    model.close()
    single.close()

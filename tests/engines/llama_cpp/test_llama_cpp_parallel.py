"""Several sequences in one cache: nothing is mixed, lost or different for the company it was computed in."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import gguf
import psutil
import pytest

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.base import GenerationCancelled, Request
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
from tanuki_cli.engines.llama_cpp.shared_cache import Part, SharedCache, shared_length
from tanuki_cli.errors import DamagedModelError, EngineError
from tests.support.llama_models import GREEDY, load, write_tiny
from tests.support.llama_parallel import SETTINGS, Company, alone, load_parallel, parts_at_a_tie, sampled

HEAD = [1, *(300 + index * 13 % 600 for index in range(60))]
PLACES = 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of four and six bits: every second position is a near tie."""
    path = tmp_path_factory.mktemp("gguf") / "q4.gguf"
    shape = Shape(n_embd=512, n_ff=1536, n_layer=3, n_head=8, n_kv_head=4, n_vocab=2048, n_pieces=2000)
    write_model(path, shape, seed=3)
    return path


@pytest.fixture(scope="module")
def single(tiny: Path) -> Iterator[LlamaCppModel]:
    model = load(tiny, SETTINGS)
    yield model
    model.close()


@pytest.fixture
def model(tiny: Path) -> Iterator[LlamaCppParallel]:
    model = load_parallel(tiny, places=PLACES)
    yield model
    model.close()


def some_requests(count: int, *, seed: int = 0) -> Iterator[Request]:
    """Greedy and sampled ones by turns, of all lengths; many begin alike."""
    chance = random.Random(seed)
    for index in range(count):
        head = HEAD[: chance.choice([1, 20, 61])]
        prompt = [*head, *(chance.randrange(300, 900) for _id in range(chance.choice([1, 3, 40, 200])))]
        yield Request(prompt_ids=prompt, options=GREEDY if index % 2 else sampled(index))


@pytest.mark.parametrize("cells", [0, 512], ids=["room", "cells run out"])
def test_answers_do_not_depend_on_who_comes_and_goes(tiny: Path, single: LlamaCppModel, cells: int) -> None:
    model = load_parallel(tiny, places=PLACES, cells=cells)
    company, chance = Company(model), random.Random(1)
    waiting = list(some_requests(80))
    dropped = []

    def join_and_leave() -> None:
        while waiting and len(company.running) < PLACES and chance.random() < 0.7:
            company.add(waiting.pop(), chance.randrange(1, 60))
        if company.running and chance.random() < 0.05:
            dropped.append(company.running[0])
            company.drop(company.running[0])

    while waiting or company.running:
        join_and_leave()
        company.step()
    assert dropped
    assert not company.ended
    for request, ids in company.ids.items():
        if request in dropped:
            assert alone(single, request, len(ids)) == ids
        else:
            assert alone(single, request, company.wanted[request]) == ids
    cache = model._cache
    assert all(len(cache._cells[place]) == cache.length(place) for place in range(PLACES))
    model.close()


def test_more_requests_than_cells_for_them_are_answered_in_order(tiny: Path, single: LlamaCppModel) -> None:
    model = load_parallel(tiny, places=PLACES, cells=512)
    company = Company(model)
    requests = [Request(prompt_ids=[1, *range(300 + n, 500 + n)], options=GREEDY) for n in range(PLACES)]
    put_back = 0
    for request in requests:
        company.add(request, 200)
    ended = []
    while company.running:
        before = list(company.running)
        company.step()
        ended += [request for request in before if request not in company.running]
        put_back += any(entry.cached_tokens is not None for entry in model._places._waiting)
    assert put_back, "the cells did not run out"
    assert ended == requests
    for request in requests:
        assert company.ids[request] == alone(single, request, 200)
    model.close()


def test_a_long_prompt_does_not_stop_those_who_answer(model: LlamaCppParallel, single: LlamaCppModel) -> None:
    company = Company(model)
    short = company.add(Request(prompt_ids=HEAD[:20], options=GREEDY), 100)
    while len(company.ids[short]) < 5:
        company.step()
    long = company.add(Request(prompt_ids=[1, *range(400, 700)], options=GREEDY), 20)
    while not company.ids[long]:
        before = len(company.ids[short])
        company.step()
        assert len(company.ids[short]) == before + 1
    company.run()
    for request in (short, long):
        assert company.ids[request] == alone(single, request, company.wanted[request])


def test_what_prompts_begin_with_is_computed_once(model: LlamaCppParallel) -> None:
    company = Company(model)
    requests = [Request(prompt_ids=[*HEAD, 700 + n, 701, 702], options=GREEDY) for n in range(6)]
    for request in requests[:PLACES]:
        company.add(request, 12)
    company.run()
    assert [company.cached[request] for request in requests[:PLACES]] == [0, *[len(HEAD)] * (PLACES - 1)]
    used = model._cache.context.length - model._cache.free
    assert used == len(HEAD) + PLACES * (3 + 11)
    first = requests[0]
    on = Request(prompt_ids=[*first.prompt_ids, *company.ids[first], 2, 800], options=GREEDY)
    company.add(on, 5)
    for request in requests[PLACES:]:
        company.add(request, 5)
    company.run()
    assert company.cached[on] == len(first.prompt_ids) + 11
    assert company.cached[requests[-1]] == len(HEAD)


def test_a_full_context_ends_an_answer(model: LlamaCppParallel, single: LlamaCppModel) -> None:
    company = Company(model)
    prompt = [1, *(300 + n % 600 for n in range(500))]
    request = company.add(Request(prompt_ids=prompt, options=GREEDY), 100)
    whole = company.add(Request(prompt_ids=(prompt * 2)[:512], options=GREEDY), 100)
    company.run()
    assert company.ids[request] == alone(single, request, 100)
    assert len(company.ids[request]) == 11
    assert company.ids[whole] == []
    with pytest.raises(ValueError, match="longer"):
        model.add(Request(prompt_ids=[1] * 513, options=GREEDY))
    with pytest.raises(ValueError, match="empty"):
        model.add(Request(prompt_ids=[], options=GREEDY))


@pytest.mark.parametrize("when", ["prompt", "answer"])
def test_cancel_ends_the_step_and_loses_nothing(
    model: LlamaCppParallel, single: LlamaCppModel, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """In the middle of the computation, as llama.cpp's own callback sees it."""
    company = Company(model)
    prompts = ([1, *range(300, 540)], HEAD)
    requests = [company.add(Request(prompt_ids=ids, options=GREEDY), 30) for ids in prompts]
    if when == "answer":
        while not all(company.ids.values()):
            company.step()
        model._cache._steps_are_slow = True  # so that it is asked in single steps
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 40:
            model.cancel()
        return model._cancelled

    monkeypatch.setattr(model._cache, "_should_stop", should_stop)
    with pytest.raises(GenerationCancelled):
        company.run()
    assert asked >= 40
    company.run()
    for request in requests:
        assert company.ids[request] == alone(single, request, 30)


def test_an_interrupt_in_the_middle_of_a_step_is_raised(
    model: LlamaCppParallel, single: LlamaCppModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(model)
    request = company.add(Request(prompt_ids=[1, *range(300, 540)], options=GREEDY), 10)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 40:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(model._cache, "_should_stop", should_stop)
    with pytest.raises(KeyboardInterrupt):
        company.step()
    company.run()
    assert company.ids[request] == alone(single, request, 10)


def test_damaged_numbers_end_only_the_request_they_belong_to(
    tmp_path: Path, tiny: Path, single: LlamaCppModel
) -> None:
    """One row of the embedding is no number: whoever has that id, and nobody else, gets an error."""
    content = bytearray(tiny.read_bytes())
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny).tensors}
    embedding = tensors["token_embd.weight"]
    poisoned, width = 950, 4 * 256
    start = int(embedding.data_offset) + poisoned * width
    content[start : start + width] = b"\xff" * width
    path = tmp_path / "poisoned.gguf"
    path.write_bytes(content)
    model = load_parallel(path, places=PLACES)
    company = Company(model)
    good = [Request(prompt_ids=[*HEAD, 600 + n], options=GREEDY) for n in range(6)]
    bad = [Request(prompt_ids=[*HEAD[:30], poisoned, *range(400, 400 + n)], options=GREEDY) for n in (1, 90)]
    company.run([good[0], good[1], bad[0], good[2], bad[1], *good[3:]], count=40)
    assert set(company.ended) == set(bad)
    assert all(isinstance(outcome.error, DamagedModelError) for outcome in company.ended.values())
    for request in good:
        expected = alone(single, request, 40)
        assert poisoned not in expected
        assert company.ids[request] == expected
    # One that is dropped before it is noticed leaves its cells to others.
    request = company.add(Request(prompt_ids=[1, poisoned, *range(300, 700)], options=GREEDY), 5)
    company.step()
    company.drop(request)
    again = [company.add(Request(prompt_ids=ask.prompt_ids, options=GREEDY), 40) for ask in good[:3]]
    company.run()
    assert [company.ids[request] for request in again] == [company.ids[request] for request in good[:3]]
    model.close()


def test_the_same_requests_give_the_same_answers_to_the_last_token(quantised: Path) -> None:
    """On weights where rounding decides every second token: the schedule follows no clock."""
    answers = []
    for _run in range(2):
        model = load_parallel(quantised, places=PLACES)
        company = Company(model)
        company.run(some_requests(24, seed=5), count=30)
        answers.append(list(company.ids.values()))
        model.close()
    assert answers[0] == answers[1]


def test_alone_a_request_gets_what_a_single_model_gives_to_the_last_token(quantised: Path) -> None:
    single = load(quantised, SETTINGS)
    for index, request in enumerate(some_requests(12, seed=7)):
        model = load_parallel(quantised, places=PLACES)
        company = Company(model)
        company.add(request, 40)
        company.run()
        assert company.ids[request] == alone(single, request, 40), index
        model.close()
    single.close()


def test_greedy_answers_in_company_part_only_at_near_ties(quantised: Path) -> None:
    for path in (practice_model().path, quantised):
        single, model = load(path, SETTINGS), load_parallel(path, places=8)
        company = Company(model)
        requests = [replace(request, options=GREEDY) for request in islice(some_requests(32, seed=9), 32)]
        company.run(requests, count=40)
        for request in requests:
            expected = alone(single, request, 40)
            assert parts_at_a_tie(single, request, expected, company.ids[request])
        model.close()
        single.close()


def test_the_record_is_what_llama_cpp_holds(tiny: Path) -> None:
    """After random copies, cuts and computations: lengths, and to the cell how many are free."""
    model = load_parallel(tiny, places=PLACES, cells=512)
    cache, chance = model._cache, random.Random(3)
    for _round in range(10):
        for _operation in range(40):
            place, other = chance.sample(range(PLACES), 2)
            action = chance.choice(["compute", "compute", "copy", "trim", "empty"])
            if action == "copy":
                cache.copy(place, other, chance.randrange(cache.length(place) + 1))
            elif action in ("trim", "empty"):
                cache.trim(place, chance.randrange(cache.length(place) + 1) if action == "trim" else 0)
            else:
                sizes = {place: chance.randrange(1, 40), other: chance.randrange(1, 40)}
                if sum(sizes.values()) <= cache.free:
                    cache.compute([Part(one, [300 + size] * size, 0) for one, size in sizes.items()])
        fills_up(cache)
    model.close()


def fills_up(cache: SharedCache) -> None:
    """Raise unless the cache takes as many ids as are said to be free, and not one more."""
    place = min(range(PLACES), key=cache.length)
    length = cache.length(place)
    while cache.free:
        cache.compute([Part(place, [300] * min(cache.free, 200), 0)])
    with pytest.raises(EngineError):
        cache.compute([Part(place, [300], 0)])
    cache.trim(place, length)


def test_shared_length_is_the_first_difference() -> None:
    chance = random.Random(0)
    for _case in range(2000):
        one, other = ([chance.randrange(2) for _id in range(chance.randrange(12))] for _list in range(2))
        pairs = zip(one, other, strict=False)
        expected = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
        assert shared_length(one, other) == expected


def test_memory_stays_the_same_over_hundreds_of_requests(model: LlamaCppParallel) -> None:
    company = Company(model)
    process = psutil.Process()

    def run_some(count: int, seed: int) -> int:
        company.run(some_requests(count, seed=seed), count=5)
        for kept in (company.ids, company.wanted, company.cached, company.ended):
            kept.clear()
        return int(process.memory_info().rss)

    before = run_some(100, 1)
    assert run_some(400, 2) - before < 8_000_000
    assert not model._known
    assert len(model._cache._sharers) <= model._cache.context.length

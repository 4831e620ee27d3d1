"""Several sequences in one cache: nothing is mixed, lost or different for the company it was computed in."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest
from msgspec.structs import replace

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp import capacity
from tanuki_cli.engines.llama_cpp.cutting import MANY, chunk_size, reusable
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS, GPU_COSTS
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.llama_cpp.memory import forecast
from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
from tanuki_cli.engines.llama_cpp.places import Crowd
from tanuki_cli.engines.llama_cpp.sequences import Part, Sequences
from tanuki_cli.engines.token_model import Request
from tanuki_cli.errors import DamagedModelError, EngineError
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.machine.memory import MemoryEstimate
from tanuki_cli.sampling import SamplingOptions
from tests.support.llama_models import ENGINE, GREEDY, load, write_tiny
from tests.support.llama_parallel import (
    SETTINGS,
    Company,
    alone,
    as_alone,
    load_parallel,
    parts_at_a_tie,
    sampled,
)

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


@pytest.fixture(params=[16, None], ids=["read along", "prompts first"])
def chunk(request: pytest.FixtureRequest) -> int | None:
    value: int | None = request.param
    return value


@pytest.fixture
def model(tiny: Path, chunk: int | None) -> Iterator[LlamaCppParallel]:
    model = load_parallel(tiny, places=PLACES, chunk=chunk)
    yield model
    model.close()


def some_requests(count: int, *, seed: int = 0) -> Iterator[Request]:
    """Greedy and sampled ones by turns, of all lengths; many begin alike."""
    chance = random.Random(seed)
    for index in range(count):
        head = HEAD[: chance.choice([1, 20, 61])]
        prompt = [*head, *(chance.randrange(300, 900) for _id in range(chance.choice([1, 3, 40, 200])))]
        yield Request(prompt_ids=prompt, options=GREEDY if index % 2 else sampled(index))


def test_answers_do_not_depend_on_who_comes_and_goes(model: LlamaCppParallel, single: LlamaCppModel) -> None:
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
            assert as_alone(single, request, ids, len(ids))
        else:
            assert as_alone(single, request, ids, company.wanted[request])


@pytest.mark.parametrize("chunk", [16])
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
        assert as_alone(single, request, company.ids[request], company.wanted[request])


@pytest.mark.parametrize("chunk", [16])
def test_a_short_prompt_overtakes_a_long_one(model: LlamaCppParallel, single: LlamaCppModel) -> None:
    company = Company(model)
    first = company.add(Request(prompt_ids=HEAD[:20], options=GREEDY), 60)
    while not company.ids[first]:
        company.step()
    long = company.add(Request(prompt_ids=[1, *range(400, 700)], options=GREEDY), 5)
    company.step()
    short = company.add(Request(prompt_ids=[1, *range(700, 740)], options=GREEDY), 5)
    while not company.ids[short]:
        company.step()
    assert not company.ids[long]
    company.run()
    for request in (first, long, short):
        assert as_alone(single, request, company.ids[request], company.wanted[request])


@pytest.mark.parametrize("chunk", [None])
def test_prompts_come_first_and_several_together(
    model: LlamaCppParallel, single: LlamaCppModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[list[int]] = []
    compute = model._sequences.compute

    def noted(parts: Sequence[Part]) -> list[int]:
        computed.append([len(part.ids) for part in parts])
        return compute(parts)

    monkeypatch.setattr(model._sequences, "compute", noted)
    company = Company(model)
    # Of these 45, 3 would be left, fewer than are ever computed by themselves.
    for start, length in ((300, 42), (400, 45), (500, 42), (600, 400)):
        company.add(Request(prompt_ids=[1, *range(start, start + length - 1)], options=GREEDY), 20)
    while not all(company.ids.values()):
        company.step()
    assert computed == [[42] * 3, [45] * 2, [256 - 42 - 45], [400 - 256]]
    assert [len(ids) for ids in company.ids.values()] == [1, 1, 1, 1]
    company.run()
    assert set(map(len, computed[4:])) == {4}
    for request, ids in company.ids.items():
        assert as_alone(single, request, ids, 20)


def test_what_prompts_begin_with_is_computed_once(model: LlamaCppParallel) -> None:
    company = Company(model)
    requests = [Request(prompt_ids=[*HEAD, 700 + n, 701, 702], options=GREEDY) for n in range(6)]
    for request in requests[:PLACES]:
        company.add(request, 12)
    company.run()
    # The last eight ids are always computed, together.
    assert [company.cached[request] for request in requests[:PLACES]] == [
        0,
        *[len(HEAD) + 3 - 8] * (PLACES - 1),
    ]
    first = requests[0]
    on = Request(prompt_ids=[*first.prompt_ids, *company.ids[first], 2, 800], options=GREEDY)
    company.add(on, 5)
    for request in requests[PLACES:]:
        company.add(request, 5)
    company.run()
    assert company.cached[on] == len(on.prompt_ids) - 8
    assert company.cached[requests[-1]] == len(HEAD) + 3 - 8


@pytest.mark.parametrize(("length", "most"), [(60, 2), (10, PLACES)])
def test_many_begin_at_once_only_while_they_are_short(tiny: Path, length: int, most: int) -> None:
    model = load_parallel(tiny, places=PLACES, crowd=Crowd(few=2, most_ids=100))
    prompts = [[2 + n, *range(300, 299 + length)] for n in range(8)]
    requests = [Request(prompt_ids=ids, options=GREEDY) for ids in prompts]
    company, seen = Company(model), set()
    for request in requests:
        company.add(request, 3)
    while company.running:
        company.step()
        seen.add(len(model._places.running))
    assert max(seen) == most
    assert [len(ids) for ids in company.ids.values()] == [3] * len(requests)
    model.close()


def test_a_full_context_ends_an_answer(model: LlamaCppParallel, single: LlamaCppModel) -> None:
    company = Company(model)
    prompt = [1, *(300 + n % 600 for n in range(500))]
    request = company.add(Request(prompt_ids=prompt, options=GREEDY), 100)
    whole = company.add(Request(prompt_ids=(prompt * 2)[:512], options=GREEDY), 100)
    company.run()
    assert as_alone(single, request, company.ids[request], 100)
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
        model._sequences._is_slow = True  # so that it is asked in single steps
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 40:
            model.cancel()
        return model._cancelled

    monkeypatch.setattr(model._sequences, "_should_stop", should_stop)
    with pytest.raises(GenerationCancelled):
        company.run()
    assert asked >= 40
    company.run()
    for request in requests:
        assert as_alone(single, request, company.ids[request], 30)


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

    monkeypatch.setattr(model._sequences, "_should_stop", should_stop)
    with pytest.raises(KeyboardInterrupt):
        company.step()
    company.run()
    assert as_alone(single, request, company.ids[request], 10)


def test_damaged_numbers_end_only_the_request_they_belong_to(
    tmp_path: Path, tiny: Path, single: LlamaCppModel, chunk: int | None
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
    model = load_parallel(path, places=PLACES, chunk=chunk)
    company = Company(model)
    good = [Request(prompt_ids=[*HEAD, 600 + n], options=GREEDY) for n in range(6)]
    bad = [Request(prompt_ids=[*HEAD[:30], poisoned, *range(400, 400 + n)], options=GREEDY) for n in (1, 90)]
    company.run([good[0], good[1], bad[0], good[2], bad[1], *good[3:]], count=40)
    assert set(company.ended) == set(bad)
    assert all(isinstance(outcome.error, DamagedModelError) for outcome in company.ended.values())
    for request in good:
        assert poisoned not in alone(single, request, 40)
        assert as_alone(single, request, company.ids[request], 40)
    # One that is dropped before it is noticed leaves its cells to others.
    request = company.add(Request(prompt_ids=[1, poisoned, *range(300, 700)], options=GREEDY), 5)
    company.step()
    company.drop(request)
    again = [company.add(Request(prompt_ids=ask.prompt_ids, options=GREEDY), 40) for ask in good[:3]]
    company.run()
    for request in again:
        assert as_alone(single, request, company.ids[request], 40)
    model.close()


def test_the_same_requests_give_the_same_answers_to_the_last_token(
    quantised: Path, chunk: int | None
) -> None:
    """On weights where rounding decides every second token: the schedule follows no clock."""
    answers = []
    for _run in range(2):
        model = load_parallel(quantised, places=PLACES, chunk=chunk)
        company = Company(model)
        company.run(some_requests(24, seed=5), count=30)
        answers.append(list(company.ids.values()))
        model.close()
    assert answers[0] == answers[1]


def test_alone_a_request_gets_what_a_single_model_gives_to_the_last_token(
    quantised: Path, chunk: int | None
) -> None:
    single = load(quantised, SETTINGS)
    for index, request in enumerate(some_requests(12, seed=7)):
        model = load_parallel(quantised, places=PLACES, chunk=chunk)
        company = Company(model)
        company.add(request, 40)
        company.run()
        assert company.ids[request] == alone(single, request, 40), index
        model.close()
    single.close()


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_in_company_a_request_gets_what_it_gets_alone_to_the_last_token(
    quantised: Path, temperature: float, chunk: int | None
) -> None:
    """On a processor whose kernels give the same numbers for four ids as for one."""
    if ENGINE != "llama.cpp":
        pytest.skip("sequences share one cache there")
    if not same_for_several(quantised):
        pytest.skip("this processor's kernels round by how many ids are computed together")
    for path in (practice_model().path, quantised):
        single, model = load(path, SETTINGS), load_parallel(path, places=PLACES, chunk=chunk)
        company = Company(model)
        requests = [
            replace(request, options=SamplingOptions(temperature=temperature, seed=seed))
            for seed, request in enumerate(some_requests(32, seed=9))
        ]
        company.run(requests, count=40)
        for request in requests:
            assert company.ids[request] == alone(single, request, 40)
        model.close()
        single.close()


def same_for_several(path: Path) -> bool:
    """Whether the logits of four sequences are to the last bit what each gives alone."""
    model = load_parallel(path, places=PLACES)
    sequences, size = model._sequences, model._n_vocab
    found = []
    for together in (False, True):
        sequences.clear()
        for place in range(PLACES):
            sequences.compute([Part(place, HEAD, 0)])
        parts = [Part(place, [300 + place], 1) for place in range(PLACES)]
        logits = []
        for group in [parts] if together else [[part] for part in parts]:
            logits += [sequences.context.logits(index)[:size] for index in sequences.compute(group)]
        found.append(logits)
    model.close()
    return found[0] == found[1]


def test_greedy_answers_in_company_part_only_at_near_ties(quantised: Path, chunk: int | None) -> None:
    """Many at once, so that the kernels are others than for one."""
    for path in (practice_model().path, quantised):
        single, model = load(path, SETTINGS), load_parallel(path, places=12, chunk=chunk)
        company = Company(model)
        requests = [replace(request, options=GREEDY) for request in some_requests(24, seed=9)]
        company.run(requests, count=40)
        for request in requests:
            expected = alone(single, request, 40)
            assert parts_at_a_tie(single, request, expected, company.ids[request])
        model.close()
        single.close()


def test_the_record_is_what_llama_cpp_holds(model: LlamaCppParallel) -> None:
    """After random copies, cuts and computations the logits are those of the ids in the record."""
    sequences, chance = model._sequences, random.Random(3)
    for _round in range(10):
        for _operation in range(30):
            place, other = chance.sample(range(PLACES), 2)
            action = chance.choice(["compute", "compute", "copy", "trim", "empty"])
            if action == "copy":
                sequences.copy(place, other, chance.randrange(sequences.length(place) + 1))
            elif action in ("trim", "empty"):
                length = sequences.length(place)
                sequences.trim(place, chance.randrange(length + 1) if action == "trim" else 0)
            else:
                sizes = {one: chance.randrange(1, 20) for one in (place, other)}
                sequences.compute(
                    [
                        Part(one, [chance.randrange(300, 900) for _id in range(size)], 0)
                        for one, size in sizes.items()
                        if sequences.length(one) + size < 500
                    ]
                    or [Part(0, [300], 0)]
                )
        for place in range(PLACES):
            assert says(sequences, place) == pytest.approx(says_alone(sequences, place), abs=1e-3)


def says(sequences: Sequences, place: int) -> list[float]:
    """Some logits after what is in ``place`` and one id more."""
    index = sequences.compute([Part(place, [300], 1)])[0]
    return list(sequences.context.logits(index)[:20])


def says_alone(sequences: Sequences, place: int) -> list[float]:
    """The same, computed anew."""
    ids = list(sequences.ids(place))
    sequences.trim(place, 0)
    for start in range(0, len(ids), 200):
        part = ids[start : start + 200]
        index = sequences.compute([Part(place, part, 1)])[0]
    return list(sequences.context.logits(index)[:20])


def test_a_prompt_is_cut_as_a_model_for_one_cuts_it() -> None:
    """At whole batches; and whatever is there already, nothing small is left or computed."""
    chance = random.Random(0)
    for _case in range(3000):
        total, most = chance.randrange(1, 700), chance.choice([32, 64, 256])
        done = reusable(chance.randrange(total + 1), total, n_batch=256)
        assert done < total
        while done < total:
            size = chunk_size(done, total, n_batch=256, most=most)
            border = (done // 256 + 1) * 256
            assert min(MANY, total) <= size <= most, (total, done)
            # Across a border goes only the end, where one of its parts would be small.
            assert done + size <= border or (done + size == total and size < 3 * MANY), (total, done)
            done += size


def test_logits_of_a_text_that_is_longer_than_a_batch(tiny: Path, single: LlamaCppModel) -> None:
    """With many places more logits may be kept than a computation takes ids."""
    ids = [1, *range(300, 400)]
    model = load_parallel(tiny, places=48, n_batch=64)
    assert model._context.max_outputs > model._context.n_batch
    rows = np.concatenate(list(model.logits(ids)))
    model.close()
    assert rows.shape[0] == len(ids)
    assert np.allclose(rows, np.concatenate(list(single.logits(ids))), atol=1e-4)


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
    assert not model._outcomes


@pytest.mark.parametrize("has_streams", [True, False], ids=["a cache each", "one cache"])
def test_places_are_as_many_as_fit_and_pay(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, has_streams: bool
) -> None:
    single = load(tiny, SETTINGS)
    one = single._longest_params

    def needs(places: int) -> MemoryEstimate:
        """Of so many in one cache."""
        return forecast(
            single.facts, context_length=places * 512, kv_type=one.kv_type, n_batch=one.n_batch
        ).host

    each = needs(1).kv_cache if has_streams else needs(2).total - needs(1).total

    def places(
        thousandths: int, wanted: int | None = None, *, cheap: bool = False, interactive: bool = True
    ) -> int:
        available = round((needs(1).total + thousandths * each / 1000) / 0.9) + 1
        machine = Machine(ram_bytes=available, available_ram_bytes=available, physical_cores=2)
        monkeypatch.setattr(capacity, "inspect_machine", lambda _environ: machine)
        costs = GPU_COSTS if cheap else CPU_COSTS
        planned = capacity.plan_capacity(
            single.facts,
            one,
            wanted=wanted,
            interactive=interactive,
            gpu_layers=0,
            costs=costs,
            has_streams=has_streams,
        )
        assert planned.params.n_ctx == planned.params.n_sequences * one.n_ctx
        expected = (one.n_batch if cheap else 16) if interactive else None
        assert planned.chunk == expected
        is_chosen = wanted is None and planned.params.n_sequences == 16
        assert (planned.crowd is not None) is (is_chosen and not has_streams)
        return planned.params.n_sequences

    assert places(-500) == 1
    assert places(1000) == 2
    assert places(10**6) == 4
    assert places(10**6, cheap=True) == (16 if has_streams else 4)
    assert places(10**6, interactive=False) == 16
    assert places(3000, interactive=False) == 4
    assert places(10**6, 7) == 7
    with pytest.raises(EngineError, match="3 questions") as caught:
        places(1000, 3)
    assert caught.value.hint == "--parallel 2"
    single.close()

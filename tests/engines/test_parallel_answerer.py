"""Many jobs at once on the practice model: each gets what it would get alone."""

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Chunk, Job, Progress
from tanuki_cli.engines.base import Answerer, Engine, GenerationCancelled
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.parallel import ParallelAnswerer
from tanuki_cli.engines.shapes import reading
from tanuki_cli.errors import EngineError, InputError, PromptTooLongError, TanukiError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.conftest import until
from tests.support.llama_models import ENGINE

GREEDY = SamplingOptions(temperature=0.0, max_new_tokens=60, seed=1)
SETTINGS = Settings(context_length=1024, threads=1, gpu_layers=0, speculation=False, engine=ENGINE)
QUESTIONS = (
    "たぬきはどんな動物ですか。",
    "日本の首都はどこですか。",
    "りんごは何色ですか。",
    "自己紹介をしてください。",
    "虹は何色ですか。",
    "こんにちは",
)
PERSON = json.dumps(
    {
        "type": "object",
        "properties": {"名前": {"type": "string", "maxLength": 8}, "年": {"type": "integer", "maximum": 99}},
        "required": ["名前", "年"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def alone() -> Iterator[Engine]:
    engine = open_engine(practice_model(), SETTINGS)
    yield engine
    engine.close()


@pytest.fixture
def together() -> Iterator[Answerer]:
    answerer = open_engine(practice_model(), SETTINGS).answerer(3)
    assert isinstance(answerer, ParallelAnswerer)
    assert answerer.places == 3
    yield answerer
    answerer.close()


def job(text: str, form: AnswerForm = PLAIN, options: SamplingOptions = GREEDY) -> Job:
    return Job(messages=[Message("user", text)], options=options, form=form)


def run(answerer: Answerer, jobs: Sequence[Job] = ()) -> dict[Job, list[Progress]]:
    """All that comes until there is nothing to do any more, by job."""
    for one in jobs:
        answerer.add(one)
    every: dict[Job, list[Progress]] = {}
    while new := answerer.advance():
        for progress in new:
            every.setdefault(progress.job, []).append(progress)
    return every


def chunks(progress: Sequence[Progress]) -> list[Chunk]:
    assert not any(each.error for each in progress)
    return [each.chunk for each in progress if each.chunk is not None]


def text_of(progress: Sequence[Progress]) -> str:
    return "".join(each.chunk.text for each in progress if each.chunk is not None)


def expected(alone: Engine, one: Job) -> list[Chunk]:
    if one.prompt_ids:
        return list(alone.complete(one.prompt_ids, one.options, one.form))
    return list(alone.stream(one.messages, one.options, one.form))


def test_each_of_many_is_answered_as_if_it_were_alone(alone: Engine, together: Answerer) -> None:
    """Plain ones, one that is begun, stop texts, lengths, log probabilities, ids, shapes, choices."""
    ids = practice_ids(alone)
    shape = reading.json_schema(PERSON)
    choices = reading.choices(("はい", "いいえ", "わかりません"))
    jobs = [
        *map(job, QUESTIONS),
        job(QUESTIONS[0], AnswerForm(begun="たぬきは、")),
        job(QUESTIONS[0], options=replace(GREEDY, stop=("動物",))),
        job(QUESTIONS[0], options=replace(GREEDY, max_new_tokens=3)),
        job(QUESTIONS[1], AnswerForm(logprobs=3)),
        job(QUESTIONS[3], AnswerForm(shape=shape)),
        job(QUESTIONS[3], AnswerForm(shape=shape, logprobs=2)),
        job(QUESTIONS[3], AnswerForm(shape=choices)),
        job(QUESTIONS[3], AnswerForm(shape=choices, logprobs=1)),
        job(QUESTIONS[3], AnswerForm(shape=choices, scores=True), replace(GREEDY, temperature=0.5)),
        Job(prompt_ids=ids, options=GREEDY),
    ]
    assert together.waiting == 0
    for one in jobs:
        together.add(one)
    assert together.waiting == len(jobs)
    every = run(together)
    assert set(every) == set(jobs)
    for one in jobs:
        got, want = chunks(every[one]), expected(alone, one)
        assert text_of(every[one]) == "".join(each.text for each in want)
        assert [token.id for each in got for token in each.tokens] == [
            token.id for each in want for token in each.tokens
        ]
        assert got[0].plan == want[0].plan
        assert got[-1].finish_reason == want[-1].finish_reason
        assert got[-1].usage is not None
        assert want[-1].usage is not None
        assert got[-1].usage.prompt_tokens == want[-1].usage.prompt_tokens
        assert got[-1].usage.completion_tokens == want[-1].usage.completion_tokens
        if one.form.shape is choices and one.options.greedy:
            assert got[-1].usage.cached_tokens == want[-1].usage.cached_tokens == 0
        assert len(got[-1].scores) == len(want[-1].scores)
        same_probabilities(got, want)
    assert together.waiting == 0
    assert together.advance() == []


def practice_ids(engine: Engine) -> list[int]:
    assert engine.tokenizer is not None
    return engine.tokenizer.encode_chat([Message("user", QUESTIONS[2])])


def same_probabilities(got: Sequence[Chunk], want: Sequence[Chunk]) -> None:
    """Up to rounding: the practice model's logits move a little in other company."""
    pairs = zip(
        [token for each in got for token in each.tokens],
        [token for each in want for token in each.tokens],
        strict=True,
    )
    for one, other in pairs:
        assert len(one.alternatives) == len(other.alternatives)
        if other.logprob is not None:
            assert one.logprob == pytest.approx(other.logprob, abs=0.3)
    for score, other_score in zip(got[-1].scores, want[-1].scores, strict=True):
        assert score.text == other_score.text
        assert score.logprob == pytest.approx(other_score.logprob, abs=0.5)


def test_the_beginning_that_all_share_is_counted_as_cached(together: Answerer) -> None:
    every = run(together, [job(text) for text in QUESTIONS])
    cached = [each[-1].chunk.usage.cached_tokens for each in every.values() if each[-1].chunk]  # type: ignore[union-attr]
    assert cached[0] == 0
    assert min(cached[1:]) >= 15


def test_a_seed_repeats_its_answer_in_the_same_company() -> None:
    answers = []
    for _run in range(2):
        answerer = open_engine(practice_model(), SETTINGS).answerer(3)
        jobs = [
            job(text, options=SamplingOptions(temperature=1.2, max_new_tokens=30, seed=seed))
            for seed, text in enumerate(QUESTIONS)
        ]
        every = run(answerer, jobs)
        assert [each[-1].chunk and each[-1].chunk.seed for each in every.values()]
        answers.append([text_of(every[one]) for one in jobs])
        answerer.close()
    assert answers[0] == answers[1]


def test_what_is_wrong_with_one_job_is_its_own(alone: Engine, together: Answerer) -> None:
    good = job(QUESTIONS[0])
    wrong: list[tuple[Job, type[TanukiError]]] = [
        (job("あ" * 5000), PromptTooLongError),
        (Job(prompt_ids=[1, 10**6], options=GREEDY), InputError),
        (Job(prompt_ids=[1] * 1024, options=GREEDY), PromptTooLongError),
        (job("x", AnswerForm(shape=reading.regex("[0-9]{3}"), begun="だめ")), EngineError),
    ]
    every = run(together, [wrong[0][0], wrong[3][0], good, wrong[1][0], wrong[2][0]])
    for one, kind in wrong:
        assert isinstance(every[one][-1].error, kind)
        assert every[one][-1].is_last
    assert [each.text for each in chunks(every[good])] == [each.text for each in expected(alone, good)]


@pytest.mark.parametrize("when", ["waiting", "running", "ended"])
def test_a_dropped_job_touches_no_other(alone: Engine, together: Answerer, when: str) -> None:
    jobs = [job(text) for text in QUESTIONS]
    for one in jobs:
        together.add(one)
    victim = jobs[-1] if when == "waiting" else jobs[0]
    seen: dict[Job, str] = dict.fromkeys(jobs, "")
    done, dropped = set(), False
    if when == "waiting":
        together.drop(victim)
        dropped = True
    while new := together.advance():
        for progress in new:
            assert not (dropped and progress.job is victim)
            assert progress.chunk is not None
            seen[progress.job] += progress.chunk.text
            done |= {progress.job} if progress.is_last else set()
        if not dropped and (victim in done if when == "ended" else seen[victim]):
            together.drop(victim)
            dropped = True
    assert dropped
    assert done == set(jobs) - (set() if when == "ended" else {victim})
    for one in done:
        assert seen[one] == "".join(each.text for each in expected(alone, one))
    later = job(QUESTIONS[1])
    assert text_of(run(together, [later])[later]) == seen[jobs[1]]


def test_dropping_all_that_runs_from_another_thread_ends_the_step(together: Answerer) -> None:
    jobs = [job("たぬき" * 150), job("きつね" * 150)]
    steps: list[Any] = []
    entered = threading.Event()
    model: Any = together._model  # type: ignore[attr-defined]
    compute = model._context.decode_batch

    def watched(batch: Any, *, should_stop: Any = None) -> None:
        def ask() -> bool:
            entered.set()
            if not steps:  # the first computation goes on for as long as nobody stops it
                until(lambda: model._cancelled)
            return bool(should_stop())

        try:
            compute(batch, should_stop=None if should_stop is None else ask)
        finally:
            steps.append(batch.native.n_tokens)

    model._context.decode_batch = watched
    for one in jobs:
        together.add(one)

    def drop_all() -> None:
        entered.wait(30)
        for one in jobs:
            together.drop(one)

    thread = threading.Thread(target=drop_all)
    thread.start()
    every = run(together)
    thread.join()
    assert len(steps) == 1
    assert all(not progress.is_last for each in every.values() for progress in each)


def test_cancel_ends_everything_and_leaves_the_model_usable(alone: Engine, together: Answerer) -> None:
    for text in QUESTIONS:
        together.add(job(text))
    together.advance()
    together.cancel()
    with pytest.raises(GenerationCancelled):
        run(together)
    assert together.waiting == 0
    assert together.advance() == []
    later = job(QUESTIONS[0])
    assert text_of(run(together, [later])[later]) == "".join(each.text for each in expected(alone, later))


def test_one_place_answers_one_after_another(alone: Engine) -> None:
    answerer = open_engine(practice_model(), SETTINGS).answerer(1)
    jobs = [job(text) for text in QUESTIONS[:3]]
    every = run(answerer, jobs)
    assert list(every) == jobs
    for one in jobs:
        assert [each.text for each in chunks(every[one])] == [each.text for each in expected(alone, one)]
    answerer.close()
    answerer.close()


def test_as_many_places_as_fit_and_pay_where_no_number_is_asked_for() -> None:
    for interactive, places in ((True, 4), (False, 16)):
        answerer = open_engine(practice_model(), SETTINGS).answerer(interactive=interactive)
        assert answerer.places == places
        answerer.close()

"""How likely given answers are: against plain logits of transformers, on both local engines in f32."""

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import AnswerForm, AnswerScore
from tanuki_cli.engines.base import Engine, GenerationCancelled
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.shapes import reading
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.f32 import write_f32
from tests.support.lazy import lazy_imports

with lazy_imports():
    import torch
    import transformers

QUESTION = [Message("user", "たぬきは何を食べますか?")]
ANSWERS = ("はい", "はいはい", "いいえ", "いいえ、違います。", "木の実", "虫や木の実を食べます。", "ｶﾞ", "a")
SETTINGS = Settings(context_length=512, threads=1, gpu_layers=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("f32")


@pytest.fixture(scope="module")
def engines(folder: Path) -> Iterator[dict[str, Engine]]:
    opened = {local.name: open_engine(local, SETTINGS) for local in write_f32(folder)}
    yield opened
    for engine in opened.values():
        engine.close()


@pytest.fixture(params=["f32", "full"])
def engine(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> Engine:
    return engines[request.param]


@pytest.fixture(scope="module")
def expected(
    engines: dict[str, Engine], folder: Path, practice_tokenizer: ChatTokenizer
) -> dict[str, list[float]]:
    """The log probability of every token of every answer, in one plain pass each."""
    network: Any = transformers.LlamaForCausalLM.from_pretrained(folder / "full", dtype=torch.float32)
    prompt = practice_tokenizer.encode_chat(QUESTION)
    found = {}
    for answer in ANSWERS:
        ids = [*practice_tokenizer.encode(answer), practice_tokenizer.eos_id]
        with torch.inference_mode():
            table = network(torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(dim=-1)
        found[answer] = [float(table[len(prompt) - 1 + place, id_]) for place, id_ in enumerate(ids)]
    return found


def check(scores: list[AnswerScore], expected: dict[str, list[float]]) -> None:
    assert [score.text for score in scores] == list(ANSWERS)
    for score in scores:
        values = expected[score.text]
        assert [token.logprob for token in score.tokens] == pytest.approx(values, abs=1e-4)
        assert score.logprob == pytest.approx(sum(values), abs=1e-4)
        assert score.perplexity == pytest.approx(math.exp(-sum(values) / len(values)), rel=1e-3)


def test_scores_are_those_of_plain_logits(engine: Engine, expected: dict[str, list[float]]) -> None:
    check(engine.score(QUESTION, ANSWERS), expected)
    list(engine.stream(QUESTION, SamplingOptions(seed=1, max_new_tokens=20)))
    check(engine.score(QUESTION, ANSWERS), expected)  # whatever is in the cache


def test_alternatives_are_the_likeliest(engine: Engine) -> None:
    (score,) = engine.score(QUESTION, ["木の実"], alternatives=3)
    for token in score.tokens:
        logprobs = [logprob for _id, logprob in token.alternatives]
        assert logprobs == sorted(logprobs, reverse=True)
        assert len(logprobs) == 3
        assert token.logprob is not None
        assert token.logprob <= logprobs[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_choices_come_with_their_scores(
    engine: Engine, expected: dict[str, list[float]], temperature: float
) -> None:
    form = AnswerForm(shape=reading.choices(ANSWERS), scores=True)
    options = SamplingOptions(temperature=temperature, seed=5)
    chunks = list(engine.stream(QUESTION, options, form))
    check(list(chunks[-1].scores), expected)
    text = "".join(chunk.text for chunk in chunks)
    assert text in ANSWERS
    assert chunks[-1].finish_reason == "stop"
    assert {token.logprob for chunk in chunks for token in chunk.tokens} == {None}
    if not temperature:
        assert text == max(expected, key=lambda answer: sum(expected[answer]))


def test_the_likeliest_choice_needs_no_scores_to_be_asked_for(
    engine: Engine, expected: dict[str, list[float]]
) -> None:
    form = AnswerForm(shape=reading.choices(ANSWERS), logprobs=2)
    chunks = list(engine.stream(QUESTION, SamplingOptions(temperature=0.0, seed=1), form))
    best = max(expected, key=lambda answer: sum(expected[answer]))
    assert "".join(chunk.text for chunk in chunks) == best
    tokens = [token for chunk in chunks for token in chunk.tokens]
    assert [token.logprob for token in tokens] == pytest.approx(expected[best], abs=1e-4)
    assert all(len(token.alternatives) == 2 for token in tokens)


def test_what_answers_begin_with_together_is_computed_once(
    engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines["f32"]
    assert isinstance(engine, LocalEngine)
    engine.score(QUESTION, ["あ"])
    computed: list[int] = []
    model: Any = engine.token_model
    decode = model._context.decode

    def counted(ids: list[int], position: int, **options: Any) -> None:
        computed.append(len(ids))
        decode(ids, position, **options)

    monkeypatch.setattr(model._context, "decode", counted)
    engine.score(QUESTION, ["いいえ、違います。", "いいえ", "いいえ、違います"])
    tokenizer = engine.tokenizer
    longest = max(len(tokenizer.encode(text)) for text in ("いいえ、違います。", "いいえ、違います"))
    # The last id of the prompt, and every id of the longest answer, but for where two of them part.
    assert sum(computed) <= longest + 3


def test_ctrl_c_stops_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two answers, where the model is asked anew and knows nothing of it."""
    assert isinstance(engine, LocalEngine)
    model: Any = engine.token_model
    asked, logits = [], model.logits

    def interrupted(ids: list[int], **options: Any) -> Any:
        asked.append(ids)
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return logits(ids, **options)

    monkeypatch.setattr(model, "logits", interrupted)
    previous = signal.signal(signal.SIGINT, lambda *_args: engine.cancel())
    try:
        with pytest.raises(GenerationCancelled):
            engine.score(QUESTION, ["a", "b", "c"])
        assert len(asked) == 2
        asked.clear()
        form = AnswerForm(shape=reading.choices(["a", "b", "c"]), scores=True)
        chunks = list(engine.stream(QUESTION, SamplingOptions(temperature=0.0), form))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert chunks[-1].finish_reason == "interrupted"
    assert "".join(chunk.text for chunk in chunks) == ""

"""The stop rules and the text stream above a TokenModel, with a script of ids."""

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.engines.local import LocalEngine, prompt_limit
from tanuki_cli.errors import EngineError, InputError, PromptTooLongError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.scripted import ScriptedModel

QUESTION = [Message("user", "こんにちは")]


def answer(
    model: ScriptedModel, tokenizer: ChatTokenizer, options: SamplingOptions | None = None
) -> tuple[str, list[Chunk]]:
    chunks = list(LocalEngine(model, tokenizer).stream(QUESTION, options or SamplingOptions(seed=1)))
    return "".join(chunk.text for chunk in chunks), chunks


def test_eos_ends_the_answer_and_is_counted(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("はい。たぬきです。")
    text, chunks = answer(ScriptedModel([*ids, 2, *ids]), small_tokenizer)
    assert text == "はい。たぬきです。"
    last = chunks[-1]
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == len(ids) + 1
    assert last.usage.prompt_tokens == len(small_tokenizer.encode_chat(QUESTION))
    assert last.seed == 1
    assert sum(chunk.token_count for chunk in chunks) == len(ids) + 1
    assert [token.id for chunk in chunks for token in chunk.tokens] == [*ids, 2]


@pytest.mark.parametrize("end", [2, 4, 6], ids=["the tokenizer's </s>", "another of a list", "the model's"])
def test_every_id_that_ends_an_answer_ends_it(small_tokenizer: ChatTokenizer, end: int) -> None:
    backend = small_tokenizer.backend
    tokenizer = ChatTokenizer(backend, bos_id=1, eos_id=6, vocab_size=1000, other_eos_ids=(6, 4))
    ids = tokenizer.encode("はい。")
    text, chunks = answer(ScriptedModel([*ids, end, *ids]), tokenizer)
    assert (text, chunks[-1].finish_reason) == ("はい。", "stop")


def test_it_goes_on_from_ids_as_they_are(small_tokenizer: ChatTokenizer) -> None:
    model = ScriptedModel([*small_tokenizer.encode("はい。"), 2])
    chunks = list(LocalEngine(model, small_tokenizer).complete([1, 30, 31], SamplingOptions(seed=1)))
    assert "".join(chunk.text for chunk in chunks) == "はい。"
    assert model.prompts == [[1, 30, 31]]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 3


@pytest.mark.parametrize(
    "ids", [[1, -1], [1, 1_000_000], [30] * 5000], ids=["negative", "unknown", "too many"]
)
def test_ids_that_cannot_be_gone_on_from_are_refused(small_tokenizer: ChatTokenizer, ids: list[int]) -> None:
    with pytest.raises(InputError):
        list(LocalEngine(ScriptedModel([2]), small_tokenizer).complete(ids, SamplingOptions()))


def test_the_first_chunk_tells_the_plan_before_the_model_runs(small_tokenizer: ChatTokenizer) -> None:
    model = ScriptedModel([2])
    stream = LocalEngine(model, small_tokenizer).stream(QUESTION, SamplingOptions())
    plan = next(stream).plan
    assert plan is not None
    assert plan.messages == tuple(QUESTION)
    assert plan.dropped == 0
    assert model.prompts == []
    list(stream)
    assert model.prompts == [small_tokenizer.encode_chat(QUESTION)]


def test_what_comes_at_once_is_one_chunk(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("abcdefghij")
    count = len(ids)
    assert count > 8
    _text, chunks = answer(ScriptedModel(ids, bursts=range(2, 6)), small_tokenizer)
    texts = [(chunk.text, chunk.token_count) for chunk in chunks if chunk.text]
    pieces = [small_tokenizer.decode([id_]) for id_ in ids]
    singles = [(piece, 1) for piece in pieces]
    assert texts == [*singles[:2], ("".join(pieces[2:7]), 5), *singles[7:]]


@pytest.mark.parametrize("end", [(), (2,)], ids=["length", "stop"])
def test_a_burst_at_the_end_is_not_lost(small_tokenizer: ChatTokenizer, end: tuple[int, ...]) -> None:
    ids = small_tokenizer.encode("abcdefghij")
    text, _chunks = answer(ScriptedModel([*ids, *end], bursts=range(100)), small_tokenizer)
    assert text == "abcdefghij"


def test_a_burst_before_an_error_is_not_lost(small_tokenizer: ChatTokenizer) -> None:
    model = ScriptedModel(
        [*small_tokenizer.encode("abcdefghij"), EngineError("broken", hint=None)], bursts=range(100)
    )
    chunks: list[Chunk] = []
    with pytest.raises(EngineError):
        chunks.extend(LocalEngine(model, small_tokenizer).stream(QUESTION, SamplingOptions(seed=1)))
    assert "".join(chunk.text for chunk in chunks) == "abcdefghij"


def test_length_limit(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("abcdefgh")
    model = ScriptedModel(ids)
    text, chunks = answer(model, small_tokenizer, SamplingOptions(max_new_tokens=3))
    assert text == small_tokenizer.decode(ids[:3])
    assert chunks[-1].finish_reason == "length"
    assert model.generators_closed == 1


def test_full_context_is_length(small_tokenizer: ChatTokenizer) -> None:
    text, chunks = answer(ScriptedModel(small_tokenizer.encode("abc")), small_tokenizer)
    assert text == "abc"
    assert chunks[-1].finish_reason == "length"


@pytest.mark.parametrize("tail", ["\n\n### 指示:\n次の質問", "STOP and more"])
def test_stop_texts_are_not_shown(small_tokenizer: ChatTokenizer, tail: str) -> None:
    model = ScriptedModel(small_tokenizer.encode("はい。" + tail))
    text, chunks = answer(model, small_tokenizer, SamplingOptions(stop=("STOP",)))
    assert text == "はい。"
    assert chunks[-1].finish_reason == "stop"
    assert model.generators_closed == 1


def test_withheld_text_comes_when_the_answer_ends_otherwise(small_tokenizer: ChatTokenizer) -> None:
    text, _chunks = answer(ScriptedModel([*small_tokenizer.encode("はい\n\n##"), 2]), small_tokenizer)
    assert text == "はい\n\n##"


def test_broken_utf8_is_flushed_at_the_end(small_tokenizer: ChatTokenizer) -> None:
    byte_e3 = small_tokenizer.backend.token_to_id("<0xE3>")
    assert byte_e3 is not None
    text, _chunks = answer(ScriptedModel([byte_e3, 2]), small_tokenizer)
    assert text == "\N{REPLACEMENT CHARACTER}"


def test_cancel_keeps_what_came(small_tokenizer: ChatTokenizer) -> None:
    model = ScriptedModel(small_tokenizer.encode("abcdef"))
    engine = LocalEngine(model, small_tokenizer)
    text = ""
    for chunk in engine.stream(QUESTION, SamplingOptions()):
        text += chunk.text
        if text == "ab":
            engine.cancel()
    assert text == "ab"
    assert chunk.finish_reason == "interrupted"


def test_an_id_outside_the_vocabulary_is_an_error(small_tokenizer: ChatTokenizer) -> None:
    with pytest.raises(EngineError, match="99999"):
        answer(ScriptedModel([99999]), small_tokenizer)


def test_too_long_a_question_names_the_counts(small_tokenizer: ChatTokenizer) -> None:
    engine = LocalEngine(ScriptedModel([], context_length=200), small_tokenizer)
    question = [Message("user", "たぬき" * 500)]
    with pytest.raises(PromptTooLongError) as caught:
        engine.plan(question, SamplingOptions(max_new_tokens=50))
    error = caught.value
    assert error.limit == prompt_limit(200, 50) == 150
    assert error.prompt_tokens == len(small_tokenizer.encode_chat(question))
    assert 0 < error.excess_characters < 1500
    shorter = [Message("user", question[0].content[error.excess_characters :])]
    assert engine.plan(shorter, SamplingOptions(max_new_tokens=50)).prompt_tokens is not None


def test_room_for_the_answer_is_at_most_half() -> None:
    assert prompt_limit(4096, 1024) == 3072
    assert prompt_limit(4096, 100_000) == 2048


def test_cancel_before_the_model_runs_is_not_lost(small_tokenizer: ChatTokenizer) -> None:
    engine = LocalEngine(ScriptedModel(small_tokenizer.encode("abc")), small_tokenizer)
    stream = engine.stream(QUESTION, SamplingOptions())
    next(stream)
    engine.cancel()
    chunks = list(stream)
    assert "".join(chunk.text for chunk in chunks) == ""
    assert chunks[-1].finish_reason == "interrupted"

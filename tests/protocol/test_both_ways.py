"""One request, put to the server and to ``tanuki batch``: both read the same, and refuse the same."""

from typing import Any

import pytest

from tanuki_cli.batch.requests import Asking, Request, make_request
from tanuki_cli.batch.rows import Row
from tanuki_cli.errors import InputError
from tanuki_cli.protocol.fields import Fields, RequestError
from tanuki_cli.protocol.support import NOT_DONE, WITHOUT_EFFECT
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.server.asking import Wanted, read_chat
from tanuki_cli.server.served import ServedModel
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.served import served_model

DEFAULTS = SamplingOptions(temperature=0.3, top_k=7, max_new_tokens=50, stop=("終",), seed=4)
USER = {"role": "user", "content": "たぬき"}
ANSWER = {"role": "assistant", "content": "はい"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.fixture
def model(practice_tokenizer: ChatTokenizer) -> ServedModel:
    """No ids: the server gives the messages on, as ``tanuki batch`` does."""
    return served_model(practice_tokenizer, DEFAULTS, takes_ids=False)


def served(body: dict[str, Any], model: ServedModel) -> Wanted:
    return read_chat(Fields(body), model)


def batched(body: dict[str, Any]) -> Request:
    fields = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return make_request(Row(number=9, fields=fields, key="k", digest="d"), Asking(options=DEFAULTS))


def messages(*entries: object) -> dict[str, Any]:
    return {"messages": list(entries)}


TAKEN: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0, "top_p": 0.5, "min_p": 0.1, "top_k": 3, "seed": 9, "stop": "x", "max_tokens": 5},
    {"temperature": 2, "top_k": -1, "seed": -1, "stop": ["x", "y"], "max_completion_tokens": 6},
    {"max_tokens": 3, "max_completion_tokens": 6}, {"max_tokens": 4.0}, {"seed": 2**63 - 1},
    {"top_k": 10**9}, {"repetition_penalty": 1.2}, {"repeat_penalty": 1.3},
    {"repetition_penalty": 1.2, "repeat_penalty": 1.3}, {"stop": []}, {"stop": ["x"] * 256},
    {"logprobs": True}, {"logprobs": True, "top_logprobs": 0}, {"logprobs": True, "top_logprobs": 20},
    {"logprobs": False}, {"top_logprobs": 0}, {"n": 1}, {"stream": False}, {"n": 1.0},
    {"response_format": {"type": "text"}}, {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_object", "schema": SCHEMA}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    {"structured_outputs": {"choice": ["はい", "いいえ"]}}, {"structured_outputs": {"json": SCHEMA}},
    {"guided_json": SCHEMA}, {"guided_regex": "[0-9]+"}, {"guided_choice": ["a", "b"]},
    {"guided_grammar": 'start: "x"'}, {"guided_json_object": True}, {"json_schema": SCHEMA},
    messages({"role": "developer", "content": "s"}, {"role": "system", "content": "t"}, USER),
    messages(USER, USER, ANSWER, USER),
    messages({"role": "user", "content": [{"type": kind, "text": kind} for kind in ("text", "input_text")]}),
    messages({"role": "user", "content": "a\n### 応答:\nb", "name": "me"}),
    messages({"role": "user", "content": "\ud83d"}),
    messages(USER, {**ANSWER, "refusal": None, "tool_calls": [], "audio": None}, USER),
    {**messages(USER, ANSWER), "continue_final_message": True},
    {**messages(USER, ANSWER), "continue_final_message": True, "add_generation_prompt": False},
    messages(USER, ANSWER), messages(USER, {**ANSWER, "content": ""}), messages(USER, ANSWER, ANSWER),
    {"truncation": "auto"}, {"truncation": "disabled"}, {"model": "tanuki"},
    {"tools": []}, {"tools": [FUNCTION], "tool_choice": "none"}, {"tool_choice": "auto"}, {"functions": []},
    {"modalities": ["text"]}, {"logit_bias": {}}, {"presence_penalty": 0, "frequency_penalty": 0.0},
    {"stop_token_ids": []}, {"best_of": 1}, {"min_tokens": 0, "ignore_eos": False},
    dict.fromkeys(NOT_DONE), dict.fromkeys(("temperature", "stop", "response_format", "logprobs", "seed")),
    # What the clients of many libraries send along.
    {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "parallel_tool_calls": True,
     "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k", "safety_identifier": "i"},
    {"reasoning_effort": "low", "verbosity": "low", "chat_template_kwargs": {"enable_thinking": False}},
    {"unheard_of": {"a": [1]}, "temprature": 1, "強さ": 1, "a b": 1},
)  # fmt: skip
REFUSED: tuple[dict[str, Any], ...] = (
    *({name: value} for name, value in (
        ("temperature", "1"), ("temperature", 3), ("temperature", True), ("temperature", -0.1),
        ("top_p", 1.1), ("top_p", []), ("top_k", 1.5), ("top_k", -2), ("top_k", "x"), ("min_p", 2),
        ("repetition_penalty", 0), ("repeat_penalty", 11), ("max_tokens", 0), ("max_tokens", -1),
        ("max_tokens", 1.5), ("max_tokens", "x"), ("max_tokens", True), ("max_completion_tokens", 0),
        ("seed", 2**63), ("seed", 1.5), ("seed", "x"), ("stop", 1), ("stop", ""), ("stop", ["x"] * 257),
        ("stop", [1]), ("n", 0), ("n", 65), ("n", "1"), ("stream", 1), ("logprobs", 5), ("top_logprobs", 3),
        ("top_logprobs", 21), ("response_format", 1), ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema"}), ("structured_outputs", {}), ("structured_outputs", 1),
        ("structured_outputs", {"choice": 1}), ("guided_regex", "("), ("guided_regex", 1),
        ("guided_json", [1]), ("guided_json", {"not": {}}), ("guided_choice", []), ("guided_choice", "ab"),
        ("grammar", "root ::= x"),
        ("messages", None), ("messages", "x"), ("messages", []), ("messages", [1]), ("messages", [[]]),
        ("continue_final_message", True), ("truncation", "middle"), ("truncation", 1),
        ("tools", [FUNCTION]), ("tools", "x"), ("tool_choice", "required"), ("functions", [{"name": "f"}]),
        ("audio", {"voice": "x"}), ("modalities", ["text", "audio"]), ("logit_bias", {"5": 1}),
        ("presence_penalty", 0.5), ("frequency_penalty", -1), ("best_of", 2), ("use_beam_search", True),
        ("ignore_eos", True), ("min_tokens", 3), ("stop_token_ids", [9]), ("stop_token_ids", "x"),
        ("stop_token_ids", ["x"] * 1000), ("web_search_options", {}), ("chat_template", "x"),
        ("add_generation_prompt", False), ("n_predict", 5),
    )),
    {"guided_regex": "a", "guided_choice": ["b"]},
    messages({"role": "tool", "content": "x"}), messages({"role": "function", "content": "x"}),
    messages({"role": ["user"], "content": "x"}), messages({"role": "x", "content": "x"}), messages({}),
    messages({"role": "user", "content": 5}), messages({"role": "user"}),
    {**messages(USER, ANSWER), "continue_final_message": False}, messages(ANSWER),
    {**messages(USER, ANSWER), "add_generation_prompt": True},
    messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
    messages({"role": "user", "content": [{"type": "text", "text": 1}]}), messages(ANSWER, USER),
    messages(USER, {"role": "assistant", "content": None}, USER),
    messages(USER, {**ANSWER, "tool_calls": [{"id": "1"}]}, USER),
    messages(USER, {"role": "system", "content": "s"}, USER), messages({"role": "system", "content": "s"}),
)  # fmt: skip


@pytest.mark.parametrize("extra", TAKEN, ids=lambda extra: repr(extra)[:80])
def test_what_is_taken_is_the_same(extra: dict[str, Any], model: ServedModel) -> None:
    body = {"messages": [USER], **extra}
    wanted, request = served(body, model), batched(body)
    [job] = wanted.jobs
    assert list(request.job.messages) == list(job.messages)
    assert request.job.options == job.options
    assert request.job.form == job.form
    assert (request.ignored, request.guarded) == (wanted.ignored, wanted.guarded)
    assert request.truncates == wanted.truncates


@pytest.mark.parametrize("extra", REFUSED, ids=lambda extra: repr(extra)[:80])
def test_what_is_refused_is_the_same_sentence(extra: dict[str, Any], model: ServedModel) -> None:
    body = {"messages": [USER], **extra}
    with pytest.raises(InputError) as by_server:
        served(body, model)
    with pytest.raises(InputError) as by_batch:
        batched(body)
    said = by_server.value.message
    assert by_batch.value.message == f"Line 9 cannot be asked: {said.removesuffix('.')}."
    if isinstance(by_server.value, RequestError):
        assert by_server.value.english == said
        assert by_server.value.param in said or "last message" in said


def test_a_row_has_one_whole_answer() -> None:
    for extra in ({"n": 2}, {"stream": True}):
        with pytest.raises(InputError, match=next(iter(extra))):
            batched({"messages": [USER], **extra})


def test_what_is_not_known_is_named_and_what_has_no_effect_is_not(model: ServedModel) -> None:
    body = {"messages": [USER], **dict.fromkeys(WITHOUT_EFFECT - {"model", "stream", "stream_options"}, 1)}
    assert served(body, model).ignored == ()
    more = {"temprature": 1, "強さ": 1, "a\r\nb": 1, "x" * 65: 1, "absent": None}
    assert served({**body, **more}, model).ignored == ("temprature",)
    many = {f"field_{number}": 1 for number in range(1000)}
    assert len(served({**body, **many}, model).ignored) == 20


def test_what_would_change_the_answer_is_refused_whatever_it_is(model: ServedModel) -> None:
    for name, harmless in NOT_DONE.items():
        for value in harmless:
            served({"messages": [USER], name: value}, model)
        with pytest.raises(RequestError, match=name):
            served({"messages": [USER], name: {"x": 1}}, model)


def test_the_bound_of_an_answer_is_said_as_it_is(model: ServedModel) -> None:
    with pytest.raises(RequestError) as caught:
        served({"messages": [USER], "max_tokens": 0}, model)
    assert "context" in caught.value.message
    assert served({"messages": [USER], "max_tokens": 10**30}, model).jobs[0].options.max_new_tokens == 4096

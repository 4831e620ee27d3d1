import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.http import RemoteTimeouts
from tanuki_cli.engines.stops import OWN_STOP
from tanuki_cli.errors import ExitCode, InputError, PromptTooLongError, RemoteError
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.prompt import SYSTEM_TEXT
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer
from tests.conftest import small_unigram, until
from tests.support.chat_server import (
    DONE,
    ChatServer,
    Cut,
    Hang,
    Kind,
    Script,
    Status,
    chat,
    chat_answer,
    chat_usage,
    event,
    llama,
    llama_end,
    vllm,
    vllm_answer,
)
from tests.support.scripted import ScriptedModel

QUESTION = [Message("user", "たぬきは?")]
OPTIONS = SamplingOptions(max_new_tokens=64, seed=7)
SOON_S = 2.0
"""Far below every timeout here, and above what a busy machine needs for a few times POLL_S."""
QUICK = RemoteTimeouts(connect=2, probe=5, silence=30)


def open_engine(
    server: ChatServer,
    *,
    tokenizer: ChatTokenizer | None = None,
    context_length: int | None = None,
    timeouts: RemoteTimeouts = QUICK,
) -> RemoteEngine:
    model = RemoteModel(name="lab", base_url=server.url)
    tokenizers = [tokenizer] if tokenizer else []
    return RemoteEngine(model, tokenizers=tokenizers, context_length=context_length, timeouts=timeouts)


def ask(engine: Engine, options: SamplingOptions = OPTIONS) -> tuple[str, Chunk]:
    chunks = list(engine.stream(QUESTION, options))
    assert chunks[0].plan is not None
    assert not chunks[0].text
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def ask_until_error(engine: Engine) -> tuple[str, RemoteError]:
    text = ""
    try:
        for chunk in engine.stream(QUESTION, OPTIONS):
            text += chunk.text
    except RemoteError as error:
        return text, error
    pytest.fail(f"no error, but {text!r}")


# What a server is, and what is sent to it


def test_vllm_gets_the_exact_ids_and_its_ids_are_the_answer(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("日本の昔話によく出てくる動物です。")
    with (
        ChatServer(vllm_answer([*ids, 2], finish="stop"), kind="vllm", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        options = SamplingOptions(seed=7, max_new_tokens=100, stop=("終わり",), repeat_penalty=1.1)
        text, last = ask(engine, options)
        body = server.requests[0].body

    assert engine.exact
    assert engine.notes == []
    assert (engine.info.model, engine.info.engine) == ("lab (tanuki-8b)", "vLLM 0.5.4")
    assert engine.info.device == f"127.0.0.1:{server.port}"
    assert engine.context_length == 4096
    assert server.requests[0].path == "/v1/completions"
    assert body["prompt"] == small_tokenizer.encode_chat(QUESTION)
    assert body["model"] == "tanuki-8b"
    assert body["stop"] == [OWN_STOP, "終わり"]
    assert body["stop_token_ids"] == [2]
    sampling = {"temperature": 0.5, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.1}
    assert sampling.items() <= body.items()
    assert (body["seed"], body["max_tokens"]) == (7, 100)
    assert text == "日本の昔話によく出てくる動物です。"
    assert (last.finish_reason, last.seed) == ("stop", 7)
    assert last.usage == Usage(
        prompt_tokens=len(small_tokenizer.encode_chat(QUESTION)), completion_tokens=len(ids) + 1
    )


def test_old_vllm_is_asked_again_without_the_field_it_refuses(small_tokenizer: ChatTokenizer) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "return_token_ids"], "msg": "Extra inputs"}]
    refusal = Status(400, json.dumps({"object": "error", "message": str(detail)}).encode())
    answer: Script = [vllm("たぬ"), vllm("き"), vllm(finish="stop"), DONE]
    with (
        ChatServer(refusal, answer, answer, kind="vllm", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        first, second = ask(engine)[0], ask(engine)[0]

    assert first == second == "たぬき"
    asked = ["return_token_ids" in request.body for request in server.requests]
    assert asked == [True, False, False]
    assert all(request.body["prompt"] == server.requests[0].body["prompt"] for request in server.requests)


def test_what_the_user_chose_is_not_left_out_silently() -> None:
    refusal = Status(400, b'{"error": {"message": "unknown: top_k, seed, stream_options"}}')
    with (
        ChatServer(refusal, chat_answer("x"), refusal, refusal) as server,
        closing(open_engine(server)) as engine,
    ):
        assert ask(engine)[1].seed is None
        with pytest.raises(RemoteError, match="unknown: top_k"):
            ask(engine, SamplingOptions(top_k=40))
    assert ["seed" in request.body for request in server.requests] == [True, False, False]


def test_llama_server_gets_the_exact_ids(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("です。")
    script = [llama("?", [id_], predicted=count) for count, id_ in enumerate(ids, 1)]
    end = llama_end("limit", predicted=len(ids), evaluated=40, computed=8)
    with (
        ChatServer([*script, end], kind="llama-server", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        text, last = ask(engine)
        body = server.requests[0].body

    assert server.requests[0].path == "/completion"
    assert body["prompt"] == small_tokenizer.encode_chat(QUESTION)
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}  # the server's defaults are not
    assert off.items() <= body.items()
    assert text == "です。"
    assert last.finish_reason == "length"
    assert last.usage == Usage(prompt_tokens=40, completion_tokens=len(ids), cached_tokens=32)


def test_characters_whose_first_ids_llama_server_leaves_out_are_whole(small_tokenizer: ChatTokenizer) -> None:
    """It sends only the last id of a character made of byte pieces, with the character as text."""
    that, dot = small_tokenizer.encode("です"), small_tokenizer.encode("。")
    last_byte = 13 + "狸".encode()[-1]
    script = [
        llama("です", that, predicted=1),
        llama("狸", [last_byte], predicted=4),
        llama("。", dot, predicted=5),
        llama_end("limit", predicted=5),
    ]
    with (
        ChatServer(script, kind="llama-server", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        chunks = list(engine.stream(QUESTION, OPTIONS))

    assert "".join(chunk.text for chunk in chunks) == "です狸。"
    assert sum(chunk.token_count for chunk in chunks) == 5


@pytest.mark.parametrize("kind", ["vllm", "llama-server"])
def test_a_server_with_another_vocabulary_gets_text(kind: Kind, small_tokenizer: ChatTokenizer) -> None:
    pieces = small_unigram(
        first=("<unk>", "<s>", "</s>", "<pad>", "<CLS>", "<SEP>", "<EOD>", "<MASK>", "<x>")
    )
    other = ChatTokenizer(pieces, bos_id=1, eos_id=2, vocab_size=pieces.get_vocab_size())
    with (
        ChatServer(chat_answer("はい"), kind=kind, tokenizer=other) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        assert ask(engine)[0] == "はい"

    assert not engine.exact
    assert ["tokenises the text itself" in note for note in engine.notes] == [True]
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body["prompt"] == f"{SYSTEM_TEXT}\n\n### 指示:\nたぬきは?\n\n### 応答:\n"


def test_the_tokenizer_that_fits_is_found(small_tokenizer: ChatTokenizer) -> None:
    pieces = small_unigram(first=("<unk>", "<s>", "</s>"))
    other = ChatTokenizer(pieces, bos_id=1, eos_id=2, vocab_size=pieces.get_vocab_size())
    with ChatServer(vllm_answer([]), kind="vllm", tokenizer=small_tokenizer) as server:
        engine = RemoteEngine(
            RemoteModel(name="lab", base_url=server.url), tokenizers=[other, small_tokenizer]
        )
        ask(engine)
        assert server.requests[0].body["prompt"] == small_tokenizer.encode_chat(QUESTION)


@pytest.mark.parametrize(("kind", "shown"), [("ollama", "Ollama 0.9.0"), ("openai", "OpenAI API")])
def test_text_only_servers_get_the_messages(kind: Kind, shown: str, small_tokenizer: ChatTokenizer) -> None:
    script = [chat("はい"), chat("。"), chat(finish="stop"), chat_usage(9, 3, 4), DONE]
    with (
        ChatServer(script, kind=kind) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        text, last = ask(engine)
        body = server.requests[0].body

    assert engine.info.engine == shown
    assert len(engine.notes) == 1
    assert body["messages"] == [{"role": "user", "content": "たぬきは?"}]
    assert "top_k" not in body  # not part of the API, and off
    assert text == "はい。"
    assert last.usage == Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4)


def test_text_that_utf8_cannot_hold_is_sent_all_the_same() -> None:
    with ChatServer(chat_answer("x")) as server, closing(open_engine(server)) as engine:
        list(engine.stream([Message("user", "a\udcffb😊")], OPTIONS))
        assert server.requests[0].body["messages"] == [
            {"role": "user", "content": "a\N{REPLACEMENT CHARACTER}b😊"}
        ]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_answer_may_arrive_in_any_pieces(size: int) -> None:
    whole = b"\xef\xbb\xbf: ping\r\n\r\n" + b"".join(chat_answer("狸は", "😊\u2028", "かわいい"))
    script = [whole[start : start + size] for start in range(0, len(whole), size)]
    with ChatServer(script) as server, closing(open_engine(server)) as engine:
        assert ask(engine)[0] == "狸は😊\u2028かわいい"


def test_only_sampling_that_was_asked_for_is_sent_beyond_the_api() -> None:
    with ChatServer(chat_answer("x")) as server, closing(open_engine(server)) as engine:
        ask(engine, SamplingOptions(top_k=40, min_p=0.1, repeat_penalty=1.2))
        body = server.requests[0].body
    assert {"top_k": 40, "min_p": 0.1, "repeat_penalty": 1.2}.items() <= body.items()
    assert isinstance(body["seed"], int)


def test_the_shorter_context_counts(small_tokenizer: ChatTokenizer) -> None:
    with ChatServer(kind="vllm", tokenizer=small_tokenizer, context_length=600) as server:
        lengths = [open_engine(server, context_length=wanted).context_length for wanted in (None, 300, 4096)]
    assert lengths == [600, 300, 600]


def test_the_answer_is_never_asked_to_leave_the_context(small_tokenizer: ChatTokenizer) -> None:
    """vLLM refuses a request whose prompt and answer together do not fit."""
    with (
        ChatServer(vllm_answer([]), kind="vllm", tokenizer=small_tokenizer, context_length=128) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        ask(engine, SamplingOptions(max_new_tokens=1024))
        body = server.requests[0].body
    prompt = body["prompt"]
    assert isinstance(prompt, list)
    assert body["max_tokens"] == 128 - len(prompt)


def test_oldest_turns_are_dropped_as_on_local_engines(small_tokenizer: ChatTokenizer) -> None:
    messages = [Message("user", "たぬき" * 20), Message("assistant", "です" * 20), Message("user", "日本は?")]
    local = LocalEngine(ScriptedModel([], context_length=128), small_tokenizer)
    with (
        ChatServer(vllm_answer([]), kind="vllm", tokenizer=small_tokenizer, context_length=128) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        plan = engine.plan(messages, OPTIONS)
        streamed = next(iter(engine.stream(messages, OPTIONS))).plan
        with pytest.raises(PromptTooLongError):
            engine.plan([Message("user", "たぬき" * 200)], OPTIONS)
    assert plan == streamed == local.plan(messages, OPTIONS)
    assert plan.dropped == 2


# The rules of local engines


def test_the_same_ids_give_the_same_answer_as_on_a_local_engine(small_tokenizer: ChatTokenizer) -> None:
    ids_lists = st.lists(st.integers(min_value=0, max_value=400), max_size=30)
    stops = st.sampled_from([(), ("です",), ("a",), ("\n",)])
    with (
        ChatServer(kind="vllm", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):

        @settings(max_examples=40)
        @given(ids=ids_lists, stop=stops)
        @example(ids=[13, 2], stop=())  # a byte that is withheld until the end
        def same(ids: list[int], stop: tuple[str, ...]) -> None:
            options = SamplingOptions(max_new_tokens=len(ids) + 1, seed=1, stop=stop)
            server.scripts.append(vllm_answer(ids))
            local = ask(LocalEngine(ScriptedModel(ids, context_length=4096), small_tokenizer), options)
            (text, last), (expected, end) = ask(engine, options), local
            assert text == expected
            assert (last.finish_reason, last.usage, last.seed) == (end.finish_reason, end.usage, end.seed)

        same()


@pytest.mark.parametrize(
    ("texts", "stop", "expected"),
    [
        (["はい。\n\n", "### 指", "示:\n次"], (), "はい。"),
        (["あいう", "えお"], ("うえ",), "あい"),
        (["あいう", "えお"], (), "あいうえお"),
    ],
)
def test_stop_rules_hold_for_text_too(texts: list[str], stop: tuple[str, ...], expected: str) -> None:
    with (
        ChatServer(chat_answer(*texts)) as server,
        closing(open_engine(server)) as engine,
    ):
        text, last = ask(engine, SamplingOptions(stop=stop))
        assert (text, last.finish_reason) == (expected, "stop")


def test_a_server_that_goes_on_after_the_end_is_left(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("です")
    script: Script = [vllm("", [*ids, 2]), vllm("", ids), Hang()]
    with (
        ChatServer(script, kind="vllm", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        text, last = ask(engine)
        until(server.disconnected.is_set)
    assert (text, last.finish_reason) == ("です", "stop")


def test_ids_outside_the_vocabulary_are_an_error(small_tokenizer: ChatTokenizer) -> None:
    with (
        ChatServer(vllm_answer([70000]), kind="vllm", tokenizer=small_tokenizer) as server,
        closing(open_engine(server, tokenizer=small_tokenizer)) as engine,
    ):
        assert "70000" in ask_until_error(engine)[1].message


# Failures

BROKEN_UTF8 = b'data: {"choices":[{"delta":{"content":"\xe3\x81"}}]}\n\n'
FAILURES: list[tuple[Script, str, str]] = [
    (Status(401), "", "wants an API key"),
    (Status(403), "", "wants an API key"),
    (Status(404), "", "has no /v1/chat/completions"),
    (Status(404, b'{"message": "The model `x` does not exist."}'), "", "The model `x` does not exist"),
    (Status(400, b'{"error": {"message": "bad temperature"}}'), "", "status 400: bad temperature"),
    (Status(500, b"<html>oops</html>"), "", "status 500: <html>oops</html>"),
    (Status(307, headers={"Location": "http://127.0.0.1:9/"}), "", "another address"),
    (Status(200, b"<p>", {"Content-Type": "text/html"}), "", "does not stream"),
    ([chat("はい\n\n###"), Cut()], "はい\n\n###", "broke off"),
    ([chat("はい")], "はい", "broke off"),
    ([chat("はい"), b"data: {nonsense\n\n"], "はい", "not valid JSON"),
    ([chat("はい"), b"data: [1]\n\n"], "はい", "not a JSON object"),
    ([chat("はい"), BROKEN_UTF8], "はい", "not valid UTF-8"),
    ([chat("はい"), event({"error": {"message": "CUDA error", "code": 500}})], "はい", "CUDA error"),
    ([chat("はい"), event({"object": "error", "message": "aborted"})], "はい", "aborted"),
]


@pytest.mark.parametrize(("script", "partial", "reason"), FAILURES, ids=[case[2] for case in FAILURES])
def test_a_failure_is_told_the_partial_answer_kept_and_the_next_try_works(
    script: Script, partial: str, reason: str
) -> None:
    with ChatServer(script, chat_answer("はい。")) as server, closing(open_engine(server)) as engine:
        text, error = ask_until_error(engine)
        again = ask(engine)[0]
    assert text == partial
    assert error.exit_code == ExitCode.REMOTE
    assert reason in error.message
    assert error.message.count("\n") == 0
    assert error.hint
    assert again == "はい。"
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Status(503), Status(429), [Cut()], []], ids=["503", "429", "cut", "empty"])
def test_a_passing_failure_before_the_first_token_is_tried_again(fault: Script) -> None:
    with ChatServer(fault, fault, chat_answer("はい")) as server, closing(open_engine(server)) as engine:
        assert ask(engine)[0] == "はい"
    assert len(server.requests) == 3


@pytest.mark.parametrize(("code", "reason"), [(429, "too many requests"), (503, "not ready: loading")])
def test_trying_again_ends(code: int, reason: str) -> None:
    faults = [Status(code, b'{"error": "loading"}')] * 4
    with ChatServer(*faults) as server, closing(open_engine(server)) as engine:
        error = ask_until_error(engine)[1]
    assert reason in error.message
    assert len(server.requests) == 4


def test_a_long_retry_after_is_not_waited_for() -> None:
    fault = Status(429, headers={"Retry-After": "3600"})
    with ChatServer(fault) as server, closing(open_engine(server)) as engine:
        ask_until_error(engine)
    assert len(server.requests) == 1


def test_a_silent_server_is_an_error() -> None:
    timeouts = RemoteTimeouts(connect=2, probe=5, silence=0.3)
    with (
        ChatServer([chat("はい"), Hang()]) as server,
        closing(open_engine(server, timeouts=timeouts)) as engine,
    ):
        text, error = ask_until_error(engine)
        until(server.disconnected.is_set)
    assert text == "はい"
    assert "0.3 seconds" in error.message


def test_statistics_that_do_not_come_are_no_error() -> None:
    with (
        ChatServer([chat("はい"), chat(finish="stop"), Cut()]) as server,
        closing(open_engine(server)) as engine,
    ):
        assert ask(engine)[0] == "はい"


@pytest.mark.parametrize(
    ("models", "name", "reason"),
    [
        (("a", "b"), "c", "does not serve c; it serves: a, b"),
        (("a", "b"), None, "several models; name one of: a, b"),
        ((), None, "serves no model"),
    ],
)
def test_the_model_must_be_named_right(models: tuple[str, ...], name: str | None, reason: str) -> None:
    with ChatServer(models=models) as server:
        with pytest.raises(RemoteError) as caught:
            RemoteEngine(RemoteModel(name="lab", base_url=server.url, served_name=name))
        assert reason in caught.value.message
        assert caught.value.hint is not None
        assert (f"{server.url}#a" in caught.value.hint) == bool(models)


def test_a_model_can_be_chosen() -> None:
    with ChatServer(chat_answer("x"), models=("a", "b")) as server:
        engine = RemoteEngine(RemoteModel(name=f"{server.url}#b", base_url=server.url, served_name="b"))
        ask(engine)
        assert engine.info.model == "b"
        assert server.requests[0].body["model"] == "b"


def test_a_server_without_a_list_of_models_serves_the_named_one() -> None:
    pages = {"/v1/models": Status(404)}
    with ChatServer(chat_answer("x"), pages=pages) as server:
        engine = RemoteEngine(RemoteModel(name="lab", base_url=server.url, served_name="m"))
        assert ask(engine)[0] == "x"
        with pytest.raises(RemoteError, match="has no /v1/models"):
            open_engine(server)


def test_the_note_about_8x8b_on_llama_server() -> None:
    with ChatServer(kind="llama-server", models=("Tanuki-8x8B-dpo-v1.0-Q4_K_M.gguf",)) as server:
        assert any("8x8B" in note for note in open_engine(server).notes)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RemoteError) as caught:
        RemoteEngine(RemoteModel(name="lab", base_url=f"http://127.0.0.1:{port}/v1"))
    assert caught.value.message == f"127.0.0.1:{port} cannot be reached: nothing listens there"
    assert caught.value.hint == f"Is the server running there? curl http://127.0.0.1:{port}/v1/models"


@pytest.mark.parametrize(
    "address", ["ftp://host/v1", "host:8000", "http://", "http://user:pass@host/v1", "http://host:port/v1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InputError) as caught:
        RemoteEngine(RemoteModel(name="lab", base_url=address))
    assert "pass@" not in f"{caught.value.message}{caught.value.hint}"


# The context of a server that alone can count


def overflow(prompt_tokens: int) -> Status:
    error = {
        "code": 400,
        "message": f"request ({prompt_tokens} tokens) exceeds the available context size (512 tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": prompt_tokens,
        "n_ctx": 512,
    }
    return Status(400, json.dumps({"error": error}).encode())


def test_turns_are_dropped_when_the_server_says_that_they_are_too_many() -> None:
    system = Message("system", "s")
    turns = [Message(role, str(index)) for index in range(8) for role in ("user", "assistant")]
    messages = [system, *turns, Message("user", "last")]
    with ChatServer(overflow(700), overflow(600), chat_answer("x")) as server:
        chunks = list(open_engine(server).stream(messages, OPTIONS))
    plans = [chunk.plan for chunk in chunks if chunk.plan]
    assert [plan.dropped for plan in plans] == [0, 4, 8]
    sent = [request.body["messages"] for request in server.requests]
    assert all(
        isinstance(each, list) and each[0]["content"] == "s" and each[-1]["content"] == "last"
        for each in sent
    )
    assert [len(plan.messages) for plan in plans] == [18, 14, 10]
    assert chunks[-1].finish_reason == "stop"


def test_a_question_that_is_too_long_alone_is_the_users_error() -> None:
    with ChatServer(overflow(1024)) as server, pytest.raises(PromptTooLongError) as caught:
        list(open_engine(server).stream([Message("user", "あ" * 1000)], OPTIONS))
    assert (caught.value.prompt_tokens, caught.value.limit) == (1024, 512)


# Stopping


@contextmanager
def interrupt_when(condition: Callable[[], object]) -> Iterator[list[float]]:
    """Send this process SIGINT as soon as ``condition`` holds; the list gets the time of it."""
    sent: list[float] = []

    def send() -> None:
        until(condition)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        thread.join()


def interrupted(engine: RemoteEngine, condition: Callable[[], object]) -> tuple[str, Chunk, float]:
    with interrupt_when(condition) as sent, on_interrupt(engine.cancel):
        text, last = ask(engine)
        took = time.monotonic() - sent[0]
    return text, last, took


def test_ctrl_c_in_the_middle_of_an_answer_ends_it_and_the_connection() -> None:
    with (
        ChatServer([chat("はい"), Hang()], chat_answer("はい。")) as server,
        closing(open_engine(server)) as engine,
    ):
        text, last, took = interrupted(engine, server.waiting.is_set)
        until(server.disconnected.is_set)
        again = ask(engine)
    assert (text, last.finish_reason) == ("はい", "interrupted")
    assert last.usage is not None
    assert took < SOON_S
    assert (again[0], again[1].finish_reason) == ("はい。", "stop")


def test_ctrl_c_while_the_prompt_is_processed() -> None:
    with ChatServer([Hang()]) as server, closing(open_engine(server)) as engine:
        text, last, took = interrupted(engine, server.waiting.is_set)
        until(server.disconnected.is_set)
    assert (text, last.finish_reason) == ("", "interrupted")
    assert took < SOON_S


def test_ctrl_c_between_two_tries() -> None:
    fault = Status(503, headers={"Retry-After": "20"})
    with ChatServer(fault) as server, closing(open_engine(server)) as engine:
        _text, last, took = interrupted(engine, lambda: len(server.requests) == 1)
    assert last.finish_reason == "interrupted"
    assert took < SOON_S


def test_leaving_the_stream_closes_the_connection() -> None:
    with ChatServer([chat("はい"), Hang()]) as server, closing(open_engine(server)) as engine:
        stream = engine.stream(QUESTION, OPTIONS)
        texts = (chunk.text for chunk in stream)
        assert next(text for text in texts if text) == "はい"
        stream.close()
        until(server.disconnected.is_set)


def test_a_cancel_between_two_answers_is_forgotten() -> None:
    with ChatServer(chat_answer("はい")) as server, closing(open_engine(server)) as engine:
        engine.cancel()
        assert ask(engine)[0] == "はい"

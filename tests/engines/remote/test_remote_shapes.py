"""Shapes and begun answers on servers: what is sent to each kind, and that every answer is checked here."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.engines.answers import AnswerForm, Chunk, Token
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.remote.address import Address
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.probe import Server, ServerKind
from tanuki_cli.engines.remote.shapes import form_fields
from tanuki_cli.engines.shapes import Shape, reading
from tanuki_cli.errors import RemoteError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.session import ChatSession
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.chat_server import DONE, ChatServer, Status, chat_answer, event, vllm_answer
from tests.support.program import run

SCHEMA = {
    "type": "object",
    "properties": {"名前": {"type": "string", "maxLength": 8}, "種類": {"enum": ["狸", "狐"]}},
    "required": ["名前", "種類"],
    "additionalProperties": False,
}
JSON = reading.json_schema(json.dumps(SCHEMA))
QUESTION = [Message("user", "誰?")]
YES_NO = reading.choices(["はい", '引用"符'])
PATTERN = reading.regex(r"\d{3}")
LARK = reading.grammar('start: "a"')
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


def fields(kind: ServerKind, shape: Shape, *, software: str = "") -> dict[str, object]:
    address = Address.parse("http://h/v1")
    server = Server(kind=kind, software=software, model="m", context_length=None, address=address)
    return form_fields(server, AnswerForm(shape=shape), host="h", exact=True)


@pytest.mark.parametrize(
    ("kind", "software", "shape", "expected"),
    [
        ("vllm", "vLLM 0.32.0", JSON, {"structured_outputs": {"json": SCHEMA}}),
        ("vllm", "vLLM", YES_NO, {"structured_outputs": {"choice": ["はい", '引用"符']}}),
        ("vllm", "vLLM 0.12.1", PATTERN, {"structured_outputs": {"regex": r"\d{3}"}}),
        ("vllm", "vLLM 0.32.0", LARK, {"structured_outputs": {"grammar": 'start: "a"'}}),
        ("vllm", "vLLM 0.5.4", JSON, {"guided_json": SCHEMA}),
        ("vllm", "vLLM 0.11.0", YES_NO, {"guided_choice": ["はい", '引用"符']}),
        ("llama-server", "", JSON, {"json_schema": SCHEMA}),
        ("llama-server", "", YES_NO, {"grammar": 'root ::= "はい" | "引用\\"符"'}),
        ("openai", "", JSON, {"response_format": FORMAT}),
        ("ollama", "", reading.any_object(), {"response_format": {"type": "json_object"}}),
    ],
)
def test_each_kind_is_asked_in_its_own_words(
    kind: ServerKind, software: str, shape: Shape, expected: dict[str, object]
) -> None:
    assert fields(kind, shape, software=software) == expected


@pytest.mark.parametrize(
    ("kind", "shape", "named"),
    [
        ("openai", YES_NO, "--choices"),
        ("ollama", PATTERN, "--regex"),
        ("llama-server", PATTERN, "--regex"),
        ("llama-server", LARK, "--grammar"),
    ],
)
def test_what_a_server_lacks_is_named(kind: ServerKind, shape: Shape, named: str) -> None:
    with pytest.raises(RemoteError, match=named):
        fields(kind, shape)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"名前":"豆","種類":"狸"}', 0),
        ('{\n                        "種類": "\\u72f8", "名前": "豆"}', 0),
        ('{"名前":"豆","種類":"犬"}', 7),
        ('これです: {"名前":"豆","種類":"狸"}', 7),
        ("", 7),
    ],
)
def test_every_answer_is_checked(tmp_path: Path, answer: str, code: int) -> None:
    with ChatServer(chat_answer(answer)) as server:
        done = run(
            tmp_path, "ask", "-m", server.url, "--json-schema", json.dumps(SCHEMA, ensure_ascii=False), "誰?"
        )
        assert server.requests[0].body["response_format"] == FORMAT
    assert done.returncode == code, done.stderr
    assert done.stdout.strip() == answer


def open_vllm(server: ChatServer, tokenizer: ChatTokenizer) -> RemoteEngine:
    return RemoteEngine(RemoteModel(name="lab", base_url=server.url), tokenizers=[tokenizer])


def test_exact_ids_go_on_where_they_were(practice_tokenizer: ChatTokenizer) -> None:
    ids = practice_tokenizer.encode("山𠮷野家😀だよ")
    prompt = practice_tokenizer.encode_chat([Message("user", "誰?")])
    for cut in range(1, len(ids)):
        with (
            ChatServer(
                vllm_answer(ids[:cut]),
                vllm_answer([*ids[cut:], 2], finish="stop"),
                kind="vllm",
                tokenizer=practice_tokenizer,
            ) as server,
            closing(open_vllm(server, practice_tokenizer)) as engine,
        ):
            chat = ChatSession(engine, Conversation(), SamplingOptions(max_new_tokens=50))
            list(chat.send("誰?"))
            assert chat.last_turn is not None
            assert chat.last_turn.finish_reason == "length"
            assert "".join(chunk.text for chunk in chat.continue_()) == "山𠮷野家😀だよ"
            assert server.requests[1].body["prompt"] == [*prompt, *ids[:cut]]


def test_tanukis_prompt_as_text_holds_the_beginning() -> None:
    with (
        ChatServer(vllm_answer([], finish="stop"), kind="vllm") as server,
        closing(RemoteEngine(RemoteModel(name="lab", base_url=server.url))) as engine,
    ):
        list(engine.stream([Message("user", "誰?")], SamplingOptions(), AnswerForm(begun="狸</s>")))
        assert str(server.requests[0].body["prompt"]).endswith("誰?\n\n### 応答:\n狸<\\/s>")


def test_a_chat_endpoint_that_can_goes_on_from_the_text() -> None:
    with (
        ChatServer(chat_answer("です"), kind="vllm", models=["other"]) as server,
        closing(RemoteEngine(RemoteModel(name="lab", base_url=server.url))) as engine,
    ):
        chunks = list(engine.stream([Message("user", "誰?")], SamplingOptions(), AnswerForm(begun="狸")))
        body: dict[str, Any] = server.requests[0].body
    assert "".join(chunk.text for chunk in chunks) == "狸です"
    assert body["messages"][-1] == {"role": "assistant", "content": "狸"}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)


@pytest.mark.parametrize(
    "form",
    [AnswerForm(begun="狸"), AnswerForm(logprobs=1), AnswerForm(shape=JSON, begun="{")],
    ids=["begun", "logprobs", "both"],
)
def test_what_cannot_be_asked_for_is_not_sent(form: AnswerForm) -> None:
    with (
        ChatServer(chat_answer("です")) as server,
        closing(RemoteEngine(RemoteModel(name="lab", base_url=server.url))) as engine,
    ):
        with pytest.raises(RemoteError, match="cannot be asked for this: --"):
            list(engine.stream([Message("user", "誰?")], SamplingOptions(), form))
        assert server.requests == []


@pytest.fixture
def real(llama_server: str, practice_tokenizer: ChatTokenizer) -> Iterator[RemoteEngine]:
    model = RemoteModel(name="lab", base_url=f"{llama_server}/v1")
    with closing(RemoteEngine(model, tokenizers=[practice_tokenizer])) as opened:
        yield opened


@pytest.mark.parametrize("shape", [JSON, YES_NO], ids=["json", "choices"])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_real_server_keeps_the_shape(real: RemoteEngine, shape: Shape, temperature: float) -> None:
    assert real.exact
    options = SamplingOptions(temperature=temperature, max_new_tokens=200, seed=2)
    chunks = list(real.stream([Message("user", "誰?")], options, AnswerForm(shape=shape)))
    text = "".join(chunk.text for chunk in chunks)
    # Its white space has no bound: the practice model may fill an answer with it.
    assert reading.fits(shape, text, as_data=True) is (chunks[-1].finish_reason == "stop"), text
    assert chunks[-1].finish_reason == "stop" or shape is JSON


def test_log_probabilities_of_a_real_server_are_those_of_the_local_engine(real: RemoteEngine) -> None:
    options = SamplingOptions(temperature=0.0, repeat_penalty=1.0, max_new_tokens=12, seed=1)
    form = AnswerForm(logprobs=3)
    with closing(open_engine(practice_model(), Settings(context_length=1024))) as local_model:
        local = tokens_of(local_model.stream(QUESTION, options, form))
    remote = tokens_of(real.stream(QUESTION, options, form))
    assert [token.id for token in remote] == [token.id for token in local]
    for ours, theirs in zip(local, remote, strict=True):
        assert theirs.logprob == pytest.approx(ours.logprob, abs=0.05)
        assert len(theirs.alternatives) == 3
        (their_best, their_value), (our_best, our_value) = theirs.alternatives[0], ours.alternatives[0]
        assert their_best == our_best
        assert their_value == pytest.approx(our_value, abs=0.05)


def test_bytes_that_llama_server_leaves_out_are_tokens_all_the_same(
    real: RemoteEngine, practice_tokenizer: ChatTokenizer
) -> None:
    """Their ids are plain, their log probabilities are not told."""
    form = AnswerForm(shape=reading.choices(["😀です"]), logprobs=1)
    tokens = tokens_of(real.stream(QUESTION, SamplingOptions(temperature=0.0, seed=1), form))
    pieces = [practice_tokenizer.piece_bytes(token.id) for token in tokens]
    assert b"".join(pieces).decode() == "😀です"
    text, unknown = b"", []
    for token, piece in zip(tokens, pieces, strict=True):
        text += piece
        unknown.append(
            (token.logprob is None, text.decode(errors="replace").endswith("\N{REPLACEMENT CHARACTER}"))
        )
    assert all(left_out is incomplete for left_out, incomplete in unknown)
    assert [left_out for left_out, _incomplete in unknown][:4] == [True, True, True, False]


def logprob_event(ids: list[int], logprobs: object, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": "?", "finish_reason": finish, "token_ids": ids, "logprobs": logprobs}
    return event({"choices": [choice]})


def test_log_probabilities_of_vllm(practice_tokenizer: ChatTokenizer) -> None:
    first, second = practice_tokenizer.encode("はい狸")
    told = {
        "tokens": [f"token_id:{first}"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{f"token_id:{second}": -1.5, f"token_id:{first}": -0.5, "token_id:9": -3.0}],
    }
    wrong = {"tokens": ["い"], "token_logprobs": ["x"], "top_logprobs": [[7]]}
    script = [logprob_event([first], told), logprob_event([second], wrong, finish="stop"), DONE]
    with (
        ChatServer(script, kind="vllm", tokenizer=practice_tokenizer) as server,
        closing(open_vllm(server, practice_tokenizer)) as engine,
    ):
        tokens = tokens_of(engine.stream(QUESTION, SamplingOptions(), AnswerForm(logprobs=2)))
        body = server.requests[0].body
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (2, True)
    assert tokens == [Token(first, -0.5, ((first, -0.5), (second, -1.5))), Token(second)]


def prompt_logprobs(ids: list[int], values: dict[int, float]) -> bytes:
    """vLLM's answer that tells of a prompt: ``values`` by place, and 9 as the likeliest everywhere."""
    told = [
        {str(id_): {"logprob": values.get(place, -1.0), "rank": 2}, "9": {"logprob": -0.1, "rank": 1}}
        for place, id_ in enumerate(ids)
    ]
    choices = [{"index": 0, "text": "?", "prompt_logprobs": [None, *told[1:]]}]
    return json.dumps({"choices": choices}).encode()


@pytest.mark.parametrize("greedy", [True, False])
def test_the_choices_of_vllm_are_scored(practice_tokenizer: ChatTokenizer, greedy: bool) -> None:
    prompt = practice_tokenizer.encode_chat(QUESTION)
    scripts: list[Any] = []
    for logprob, text in ((-2.0, "はい"), (-0.5, "いいえ")):
        ids = [*prompt, *practice_tokenizer.encode(text), practice_tokenizer.eos_id]
        values = dict.fromkeys(range(len(prompt), len(ids)), logprob)
        scripts.append(Status(200, prompt_logprobs(ids, values), {"Content-Type": "application/json"}))
    if not greedy:
        scripts.append(vllm_answer(practice_tokenizer.encode("はい"), finish="stop"))
    form = AnswerForm(shape=reading.choices(["はい", "いいえ"]), scores=True)
    with (
        ChatServer(*scripts, kind="vllm", tokenizer=practice_tokenizer) as server,
        closing(open_vllm(server, practice_tokenizer)) as engine,
    ):
        options = SamplingOptions(temperature=0.0 if greedy else 1.0)
        chunks = list(engine.stream(QUESTION, options, form))
        asked = server.requests[1].body
    assert asked["prompt"] == [*prompt, *practice_tokenizer.encode("いいえ"), practice_tokenizer.eos_id]
    count = len(practice_tokenizer.encode("いいえ")) + 1
    assert [score.text for score in chunks[-1].scores] == ["はい", "いいえ"]
    assert chunks[-1].scores[1].logprob == pytest.approx(-0.5 * count)
    assert "".join(chunk.text for chunk in chunks) == ("いいえ" if greedy else "はい")
    assert chunks[0].plan is not None


@pytest.mark.parametrize(
    "told", [[], [None], "x", [{"x": 1}] * 99], ids=["none", "short", "text", "no numbers"]
)
def test_a_server_that_tells_no_probability_is_named(practice_tokenizer: ChatTokenizer, told: object) -> None:
    body = json.dumps({"choices": [{"text": "?", "prompt_logprobs": told}]}).encode()
    script = Status(200, body, {"Content-Type": "application/json"})
    with (
        ChatServer(script, kind="vllm", tokenizer=practice_tokenizer) as server,
        closing(open_vllm(server, practice_tokenizer)) as engine,
        pytest.raises(RemoteError, match="does not say how likely"),
    ):
        engine.score(QUESTION, ["はい"])


def test_choices_of_a_server_that_tells_no_probability_are_left_to_it(
    practice_tokenizer: ChatTokenizer,
) -> None:
    script = Status(200, b'{"choices": [{"text": "?"}]}', {"Content-Type": "application/json"})
    answer = vllm_answer(practice_tokenizer.encode("はい"), finish="stop")
    with (
        ChatServer(script, answer, kind="vllm", tokenizer=practice_tokenizer) as server,
        closing(open_vllm(server, practice_tokenizer)) as engine,
    ):
        form = AnswerForm(shape=YES_NO, scores=True)
        chunks = list(engine.stream(QUESTION, SamplingOptions(temperature=0.0), form))
        assert "guided_choice" in server.requests[1].body
    assert "".join(chunk.text for chunk in chunks) == "はい"
    assert chunks[-1].scores == ()


def tokens_of(chunks: Iterator[Chunk]) -> list[Token]:
    return [token for chunk in chunks for token in chunk.tokens]

"""The remote engine against two real servers on loopback, serving the practice model."""

from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import httpx2
import llama_cpp
import pytest

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.catalog.practice import practice_model, suggestions
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.errors import PromptTooLongError
from tanuki_cli.prompt import SYSTEM_TEXT
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.conftest import until
from tests.support.model_servers import CONTEXT_LENGTH, LLAMA_SERVER, running
from tests.support.program import run

GREEDY = SamplingOptions(temperature=0, max_new_tokens=48, seed=1)


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    path = practice_model().tokenizer
    assert path is not None
    rows = llama_cpp.Llama(str(practice_model().path), vocab_only=True, verbose=False).n_vocab()
    return ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=rows)


@pytest.fixture
def engine(llama_server: str, tokenizer: ChatTokenizer) -> Iterator[RemoteEngine]:
    model = RemoteModel(name="lab", base_url=f"{llama_server}/v1")
    with closing(RemoteEngine(model, tokenizers=[tokenizer])) as opened:
        yield opened


def answer(
    engine: RemoteEngine, messages: list[Message], options: SamplingOptions = GREEDY
) -> tuple[str, Chunk]:
    chunks = list(engine.stream(messages, options))
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def interrupt_after_first_text(engine: RemoteEngine, question: str) -> Chunk:
    last = Chunk()
    endless = SamplingOptions(temperature=2, max_new_tokens=900, seed=3)
    for chunk in engine.stream([Message("user", question)], endless):
        if chunk.text:
            engine.cancel()
        last = chunk
    return last


def test_llama_server_takes_the_exact_ids(engine: RemoteEngine, tokenizer: ChatTokenizer) -> None:
    """Greedy answers are those of llama.cpp itself, given the same ids."""
    llama = llama_cpp.Llama(
        str(practice_model().path), n_ctx=CONTEXT_LENGTH, n_threads=1, n_threads_batch=1, verbose=False
    )
    assert engine.exact
    assert engine.notes == []
    assert engine.info.engine == "llama-server"
    assert engine.context_length == CONTEXT_LENGTH
    for question in suggestions("ja")[:3]:
        messages = [Message("user", question)]
        prompt_ids = tokenizer.encode_chat(messages)
        generated = llama.generate(prompt_ids, temp=0, top_k=1, repeat_penalty=1.0)
        ids = takewhile(lambda id_: id_ != tokenizer.eos_id, generated)
        expected = [id_ for id_, _index in zip(ids, range(GREEDY.max_new_tokens), strict=False)]
        text, last = answer(engine, messages)
        assert text == "".join(tokenizer.detokenize(expected, prompt_ids=prompt_ids))
        assert last.usage is not None
        assert last.usage.prompt_tokens == len(prompt_ids)


def test_a_cached_tokenizer_that_is_damaged_is_left_out(llama_server: str, tmp_path: Path) -> None:
    own = practice_model().tokenizer
    assert own is not None
    damaged = tmp_path / "tokenizer.json"
    damaged.write_bytes(own.read_bytes()[:-100])
    model = RemoteModel(name="lab", base_url=f"{llama_server}/v1")
    with closing(open_engine(model, Settings(), OpenOptions(served_tokenizers=(damaged, own)))) as engine:
        assert engine.tokenizer is not None
        assert str(damaged) in engine.notes[0]


def test_the_same_seed_gives_the_same_answer(engine: RemoteEngine) -> None:
    messages = [Message("user", "なにか話して")]

    def say(seed: int) -> str:
        return answer(engine, messages, SamplingOptions(temperature=2.0, max_new_tokens=24, seed=seed))[0]

    assert say(11) == say(11)
    assert len({say(seed) for seed in range(5)}) > 1


def test_the_next_turn_uses_the_cache(engine: RemoteEngine) -> None:
    first = [Message("user", "こんにちは。自己紹介してください。")]
    text, last = answer(engine, first)
    assert last.usage is not None
    later = answer(engine, [*first, Message("assistant", text), Message("user", "ありがとう")])[1].usage
    assert later is not None
    assert later.cached_tokens >= last.usage.prompt_tokens
    assert later.prompt_tokens > last.usage.prompt_tokens


def test_max_new_tokens_and_stop_texts(engine: RemoteEngine) -> None:
    messages = [Message("user", suggestions("ja")[0])]
    text, last = answer(engine, messages, SamplingOptions(temperature=0, max_new_tokens=3))
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 3
    full = answer(engine, messages)[0]
    cut, last = answer(engine, messages, SamplingOptions(temperature=0, stop=(full[2:4],)))
    assert (cut, last.finish_reason) == (full[: full.index(full[2:4])], "stop")
    assert full.startswith(text)


def test_an_interrupt_stops_llama_server(engine: RemoteEngine, llama_server: str) -> None:
    question = [Message("user", "たぬきとは?")]
    before = answer(engine, question)[0]
    last = interrupt_after_first_text(engine, "長い話をしてください。")
    assert last.finish_reason == "interrupted"
    until(lambda: not httpx2.get(f"{llama_server}/slots").json()[0]["is_processing"])
    slot = httpx2.get(f"{llama_server}/slots").json()[0]
    assert slot["next_token"][0]["n_decoded"] < 900
    assert answer(engine, question)[0] == before


def test_the_context_of_llama_server(llama_server: str) -> None:
    """Without the tokenizer the server counts; with too many turns some are dropped."""
    model = RemoteModel(name="lab", base_url=f"{llama_server}/v1")
    with closing(RemoteEngine(model)) as engine:
        with pytest.raises(PromptTooLongError) as caught:
            answer(engine, [Message("user", "たぬき。" * 1000)])
        assert caught.value.limit == CONTEXT_LENGTH
        turn = [Message("user", "たぬき。" * 60), Message("assistant", "はい。")]
        chunks = list(engine.stream([*turn * 8, Message("user", "最後")], GREEDY))
    plans = [chunk.plan for chunk in chunks if chunk.plan]
    assert plans[-1].dropped > 0
    assert chunks[-1].finish_reason is not None


def test_a_text_only_server(python_server: str, tokenizer: ChatTokenizer) -> None:
    model = RemoteModel(name="lab", base_url=f"{python_server}/v1")
    with closing(RemoteEngine(model, tokenizers=[tokenizer])) as engine:
        assert not engine.exact
        assert engine.info.engine == "OpenAI API"
        messages = [Message("system", SYSTEM_TEXT), Message("user", "こんにちは")]
        text, last = answer(engine, messages)
        assert text
        assert answer(engine, messages)[0] == text
        again = answer(engine, [*messages, Message("assistant", text), Message("user", "続けて")])[1]
        assert {last.finish_reason, again.finish_reason} <= {"stop", "length"}
        assert last.usage is not None
        assert last.usage.completion_tokens > 0


def test_an_interrupt_stops_a_text_only_server(python_server: str) -> None:
    """It answers one request at a time: a next answer shows that it has stopped the first."""
    model = RemoteModel(name="lab", base_url=f"{python_server}/v1")
    with closing(RemoteEngine(model)) as engine:
        assert interrupt_after_first_text(engine, "長い話をしてください。").finish_reason == "interrupted"
        assert answer(engine, [Message("user", "こんにちは")])[1].finish_reason in ("stop", "length")


def test_a_server_that_demands_a_key(tmp_path: Path) -> None:
    """With the real program: the key opens the server, and is found nowhere afterwards."""
    secret = "sk-tanuki-of-the-test"
    key_file = tmp_path / "config" / "keys.toml"

    def ask(**env: str) -> tuple[int, str, str]:
        done = run(tmp_path, "ask", "--debug", "-m", "lab", "あなたは誰?", env=env)
        return done.returncode, done.stdout, done.stderr

    with running(LLAMA_SERVER, secret) as address:
        assert run(tmp_path, "config", "set", "remotes.lab", f"{address}/v1").returncode == 0
        without, wrong, right = ask(), ask(TANUKI_API_KEY_LAB="no"), ask(TANUKI_API_KEY_LAB=secret)
        key_file.write_text(f'lab = "{secret}"\n', encoding="utf-8")
        key_file.chmod(0o600)
        from_file = ask()
        doctor = run(tmp_path, "doctor", "--json", env={"HF_HUB_OFFLINE": "1"}).stdout
    key_file.unlink()
    assert (without[0], "wants an API key" in without[2]) == (7, True)
    assert (wrong[0], "API key from TANUKI_API_KEY_LAB" in wrong[2]) == (7, True)
    assert right[:2] == from_file[:2]
    assert (right[0], "豆だぬき" in right[1]) == (0, True)
    assert "llama-server at" in doctor
    shown = [*without[1:], *wrong[1:], *right[1:], *from_file[1:], doctor]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("あなたは誰?".encode() in content for content in kept)  # the history was really looked at
    assert not [text for text in shown if secret in text]
    assert not [content for content in kept if secret.encode() in content]

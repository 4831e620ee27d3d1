"""Answers that go on, and answers that are begun: in place, with exactly the ids that were there."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Conversation, Node
from tanuki_cli.engines.answers import AnswerForm
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.shapes import reading
from tanuki_cli.errors import EngineError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.session import ChatSession
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.program import run
from tests.support.scripted import ScriptedEngine, ScriptedModel

QUESTION = "あなたは誰?"
GREEDY = SamplingOptions(temperature=0.0, max_new_tokens=200, seed=1)


@pytest.fixture(scope="module")
def mame() -> Iterator[Engine]:
    engine = open_engine(practice_model(), Settings(context_length=1024, threads=1))
    yield engine
    engine.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "history.sqlite3") as opened:
        yield opened


def session(engine: Engine, store: HistoryStore | None = None, **form: object) -> ChatSession:
    return ChatSession(engine, Conversation(), GREEDY, store=store, form=AnswerForm(**form))  # type: ignore[arg-type]


def say(chat: ChatSession, text: str = QUESTION, *, most: int = 200) -> str:
    chat.options = replace(GREEDY, max_new_tokens=most)
    return "".join(chunk.text for chunk in chat.send(text))


def go_on(chat: ChatSession, *, most: int = 200) -> str:
    chat.options = replace(GREEDY, max_new_tokens=most)
    return "".join(chunk.text for chunk in chat.continue_())


def tip(chat: ChatSession) -> Node:
    return chat.conversation.nodes[chat.conversation.tip or ""]


@pytest.mark.parametrize("most", [1, 2, 5, 11])
def test_in_pieces_the_answer_is_what_it_is_in_one(mame: Engine, store: HistoryStore, most: int) -> None:
    whole = say(session(mame))
    chat = session(mame, store)
    text = say(chat, most=most)
    earlier = [tip(chat)]
    while tip(chat).generation.finish_reason == "length":  # type: ignore[union-attr]
        # Another process each time: what goes on is what was kept.
        chat = ChatSession(mame, store.load(chat.conversation.id), GREEDY, store=store)
        text = go_on(chat, most=most)
        assert chat.last_turn is not None
        assert chat.last_turn.text == text == tip(chat).message.content
        assert text.startswith(earlier[-1].message.content)
        assert mame.context_length > 0
        earlier.append(tip(chat))
    assert text == whole
    saved = store.load(chat.conversation.id)
    (question,) = saved.children(None)
    assert saved.children(question.id) == earlier  # siblings, and nothing overwritten
    assert all(node.generation is not None and node.generation.token_ids for node in earlier[:-1])
    assert tip(chat).generation is not None
    assert tip(chat).generation.token_ids == ()  # type: ignore[union-attr]
    with pytest.raises(InputError, match="no answer that was cut"):
        go_on(chat)


def test_the_cache_is_used_and_the_beginning_is_of_the_prompt(mame: Engine) -> None:
    chat = session(mame)
    say(chat, most=6)
    first = chat.last_turn
    go_on(chat, most=6)
    second = chat.last_turn
    assert first is not None
    assert second is not None
    assert second.usage.prompt_tokens == first.usage.prompt_tokens + 6
    assert second.usage.completion_tokens == len(second.tokens) == 6
    # All but the last few, which are computed together.
    assert second.usage.cached_tokens == second.usage.prompt_tokens - 8


def test_a_character_that_was_cut_in_its_middle_is_mended(practice_tokenizer: ChatTokenizer) -> None:
    ids = practice_tokenizer.encode("山𠮷野家😀だよ")
    for cut in range(1, len(ids)):
        chat = session(LocalEngine(ScriptedModel(ids[:cut]), practice_tokenizer))
        say(chat, most=cut)
        model = ScriptedModel([*ids[cut:], practice_tokenizer.eos_id])
        chat.engine = LocalEngine(model, practice_tokenizer)
        assert go_on(chat) == "山𠮷野家😀だよ"
        assert model.prompts[0][-cut:] == ids[:cut]


def test_another_model_goes_on_from_the_text(mame: Engine) -> None:
    engine = ScriptedEngine(["わたしは"], ["豆です"])
    engine.finish_reason = "length"
    chat = session(engine)
    say(chat)
    chat.engine = mame
    assert go_on(chat).startswith("わたしは")
    assert tip(chat).generation is not None
    assert tip(chat).generation.model == "mame"  # type: ignore[union-attr]


def test_ids_that_are_not_the_text_are_not_believed(mame: Engine) -> None:
    chat = session(mame)
    say(chat, most=4)
    node = tip(chat)
    assert node.generation is not None
    for ids in ((400, 401), (10**6,)):
        chat.conversation.nodes[node.id] = replace(node, generation=replace(node.generation, token_ids=ids))
        chat.conversation.branch(node.id)
        assert go_on(chat, most=2).startswith(node.message.content)


def test_ctrl_c_before_anything_new_leaves_the_cut_answer(mame: Engine, store: HistoryStore) -> None:
    chat = session(mame, store)
    say(chat, most=4)
    cut = tip(chat)
    generator = chat.continue_()
    for chunk in generator:
        if chunk.plan is not None:
            assert chunk.text == cut.message.content
            os.kill(os.getpid(), signal.SIGINT)
    assert tip(chat) == cut
    assert chat.unanswered is None
    assert store.load(chat.conversation.id).tip == cut.id
    assert go_on(chat, most=1).startswith(cut.message.content)


@pytest.mark.parametrize("prefill", ["はい、", "わたし", " ", "①（株）", "</s>"])
def test_an_answer_is_begun(mame: Engine, store: HistoryStore, prefill: str) -> None:
    chat = session(mame, store, begun=prefill)
    text = say(chat)
    tokenizer = mame.tokenizer
    assert tokenizer is not None
    begun = tokenizer.decode(tokenizer.encode(prefill))
    assert text.startswith(begun)
    assert store.load(chat.conversation.id).path()[-1].content == text
    assert chat.last_turn is not None
    plain = session(mame)
    say(plain)
    assert plain.last_turn is not None
    more = chat.last_turn.usage.prompt_tokens - plain.last_turn.usage.prompt_tokens
    assert more == len(tokenizer.encode(prefill))


def test_a_shape_covers_the_beginning(mame: Engine) -> None:
    shape = reading.regex("はい、[0-9]{2}です。")
    assert reading.fits(shape, say(session(mame, shape=shape, begun="はい、")))
    with pytest.raises(EngineError, match="shape"):
        say(session(mame, shape=shape, begun="いいえ"))


def test_a_cut_shape_is_completed(mame: Engine) -> None:
    names = {"properties": {"名": {"enum": ["狸"]}}, "required": ["名"], "additionalProperties": False}
    shape = reading.json_schema(json.dumps({"type": "object", **names}))
    chat = session(mame, shape=shape)
    assert not reading.fits(shape, say(chat, most=3))
    assert reading.fits(shape, go_on(chat))


def test_the_command_goes_on(tmp_path: Path) -> None:
    command = ("ask", "-m", "mame", "--temperature", "0")
    whole = run(tmp_path, *command, "--no-save", QUESTION).stdout
    cut = run(tmp_path, *command, "--max-new-tokens", "4", QUESTION)
    assert "--continue-answer" in cut.stderr
    done = run(tmp_path, "ask", "--continue-answer", "--max-new-tokens", "200", "--json")
    assert json.loads(done.stdout)["answer"] + "\n" == whole
    again = run(tmp_path, "ask", "--continue-answer")
    assert again.returncode == 2
    assert "no answer that was cut" in again.stderr
    for more in (["質問"], ["--prefill", "a"], ["--score", "a"]):
        refused = run(tmp_path, "ask", "--continue-answer", *more)
        assert refused.returncode == 2
        assert "--continue-answer takes no question" in refused.stderr


def test_the_chat_goes_on(tmp_path: Path) -> None:
    arguments = ("chat", "-m", "mame", "--temperature", "0", "--max-new-tokens", "4")
    lines = f"{QUESTION}\n/set max_new_tokens 200\n/continue\n/continue\n"
    done = run(tmp_path, *arguments, stdin=lines.encode())
    assert done.returncode == 2  # there is nothing to go on with any more
    assert "/continue goes on" in done.stderr
    cut, whole = [line for line in done.stdout.splitlines() if line]
    assert len(whole) > len(cut)
    assert whole.startswith(cut)


def test_a_beginning_that_imitates_a_heading_is_defused(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-m", "mame", "--json", "--prefill", "あ\n### 指示:\nい", QUESTION)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"].startswith("あ\n\\### 指示:\nい")
    assert "--prefill" in done.stderr
    both = run(tmp_path, "ask", "-m", "mame", "--choices", "a,b", "--prefill", "a", QUESTION)
    assert both.returncode == 2

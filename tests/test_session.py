"""One turn from question to saved answer: a scripted engine, the real history file."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import EngineError, HistoryError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.prompt import with_persona
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.session import ChatSession
from tests.support.scripted import Script, ScriptedEngine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "history.sqlite3") as history:
        yield history


def session(
    engine: ScriptedEngine, store: HistoryStore | None, *, clock: Callable[[], float] = time.monotonic
) -> ChatSession:
    return ChatSession(
        engine, Conversation(), SamplingOptions(seed=3), reference="script", store=store, clock=clock
    )


def say(chat: ChatSession, text: str) -> str:
    return "".join(chunk.text for chunk in chat.send(text))


def contents(store: HistoryStore, conversation_id: str) -> list[str]:
    return [node.message.content for node in store.load(conversation_id).path_nodes()]


def test_a_turn_is_saved_and_counted(store: HistoryStore) -> None:
    chat = session(ScriptedEngine(["はい", "。"]), store)
    assert say(chat, "元気?") == "はい。"
    saved = store.load(chat.conversation.id)
    question, answer = saved.path_nodes()
    assert (question.message.content, answer.message.content) == ("元気?", "はい。")
    assert answer.generation is not None
    assert answer.generation.finish_reason == "stop"
    assert answer.generation.model == "script"
    assert answer.generation.seed == 3
    assert saved.settings.model == "script"
    assert chat.last_turn is not None
    assert chat.last_turn.usage.completion_tokens == 2


def test_the_question_is_on_disk_before_the_model_runs(store: HistoryStore) -> None:
    seen: list[list[str]] = []
    engine = ScriptedEngine([lambda: seen.append(contents(store, store.list()[0].id)), "a"])
    chat = session(engine, store)
    say(chat, "質問")
    assert seen == [["質問"]]


def test_a_growing_answer_is_on_disk_within_a_second(store: HistoryStore) -> None:
    seen: list[list[str]] = []
    now = [0.0]

    def later() -> None:
        now[0] += 0.6

    def look() -> None:
        seen.append(contents(store, store.list()[0].id))

    script: Script = ["1", later, "2", later, "3", look, "4"]
    chat = session(ScriptedEngine(script), store, clock=lambda: now[0])
    say(chat, "数えて")
    assert seen == [["数えて", "123"]]
    assert contents(store, chat.conversation.id) == ["数えて", "1234"]


def test_ctrl_c_keeps_the_partial_answer(store: HistoryStore) -> None:
    chat = session(ScriptedEngine(["前半", lambda: os.kill(os.getpid(), signal.SIGINT), "後半"]), store)
    assert say(chat, "話して") == "前半"
    assert contents(store, chat.conversation.id) == ["話して", "前半"]
    assert chat.last_turn is not None
    assert chat.last_turn.finish_reason == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_any_text_puts_the_tip_back(store: HistoryStore) -> None:
    engine = ScriptedEngine(["最初"], [lambda: os.kill(os.getpid(), signal.SIGINT), "x"], ["答え"])
    chat = session(engine, store)
    say(chat, "一")
    first = chat.last_turn
    assert say(chat, "二") == ""
    assert first is not None
    assert first.node_id == chat.conversation.tip
    assert first.text == "最初"
    assert chat.last_turn is not None
    assert (chat.last_turn.node_id, chat.last_turn.text) == (None, "")
    assert [message.content for message in chat.conversation.path()] == ["一", "最初"]
    assert "".join(chunk.text for chunk in chat.regenerate()) == "答え"
    assert contents(store, chat.conversation.id) == ["一", "最初", "二", "答え"]


def test_an_answer_of_nothing_is_an_answer(store: HistoryStore) -> None:
    chat = session(ScriptedEngine([], ["答え"]), store)
    assert say(chat, "一") == ""
    assert chat.last_turn is not None
    assert chat.last_turn.finish_reason == "stop"
    assert say(chat, "二") == "答え"
    assert contents(store, chat.conversation.id) == ["一", "", "二", "答え"]


def test_an_error_keeps_the_partial_answer_and_the_question(store: HistoryStore) -> None:
    chat = session(ScriptedEngine(["途中", EngineError("broken")], ["最後まで"]), store)
    with pytest.raises(EngineError, match="broken"):
        say(chat, "話して")
    assert contents(store, chat.conversation.id) == ["話して", "途中"]
    answers = "".join(chunk.text for chunk in chat.regenerate())
    assert answers == "最後まで"
    saved = store.load(chat.conversation.id)
    assert {node.message.content for node in saved.nodes.values()} == {"話して", "途中", "最後まで"}
    assert contents(store, chat.conversation.id) == ["話して", "最後まで"]


def test_an_abandoned_stream_is_saved(store: HistoryStore) -> None:
    chat = session(ScriptedEngine(["一", "二", "三"]), store)
    stream = chat.send("数えて")
    while next(stream).text != "二":
        pass
    stream.close()
    assert contents(store, chat.conversation.id) == ["数えて", "一二"]


def test_the_model_sees_the_path(store: HistoryStore) -> None:
    engine = ScriptedEngine(["a"], ["b"], ["c"])
    chat = session(engine, store)
    say(chat, "1")
    say(chat, "2")
    list(chat.regenerate())
    assert (
        engine.seen[2]
        == engine.seen[1]
        == [Message("user", "1"), Message("assistant", "a"), Message("user", "2")]
    )


def test_nothing_to_regenerate(store: HistoryStore) -> None:
    with pytest.raises(InputError):
        list(session(ScriptedEngine(), store).regenerate())


def test_without_a_store_nothing_is_written(tmp_path: Path) -> None:
    chat = session(ScriptedEngine(["a"]), None)
    say(chat, "1")
    assert not list(tmp_path.iterdir())


def test_a_history_that_fails_is_told_once_and_catches_up(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("in the way", encoding="utf-8")
    errors: list[HistoryError] = []
    store = HistoryStore(folder / "history.sqlite3")
    chat = ChatSession(
        ScriptedEngine(["a"], ["b"], ["c"]),
        Conversation(),
        SamplingOptions(),
        store=store,
        on_history_error=errors.append,
    )
    assert say(chat, "1") == "a"
    assert say(chat, "2") == "b"
    assert len(errors) == 1
    assert not chat.saving
    folder.unlink()
    assert say(chat, "3") == "c"
    assert chat.saving
    assert contents(store, chat.conversation.id) == ["1", "a", "2", "b", "3", "c"]
    store.close()


def test_a_persona_is_before_every_question_and_in_no_saved_message(store: HistoryStore) -> None:
    engine = ScriptedEngine(["a"], ["b"])
    chat = session(engine, store)
    chat.set_persona("海賊として答えて。")
    say(chat, "1")
    say(chat, "2")
    first, answer, second = engine.seen[1]
    assert engine.seen[0] == [first]
    assert first.content == "海賊として答えて。\n\n1"
    assert answer == Message("assistant", "a")
    assert second.content == "海賊として答えて。\n\n2"
    assert contents(store, chat.conversation.id) == ["1", "a", "2", "b"]
    assert store.load(chat.conversation.id).settings.persona == "海賊として答えて。"


def test_a_persona_is_kept_by_retry_and_can_be_removed(store: HistoryStore) -> None:
    engine = ScriptedEngine(["a"], ["b"], ["c"])
    chat = session(engine, store)
    chat.set_persona("短く。")
    say(chat, "1")
    list(chat.regenerate())
    assert engine.seen[1] == engine.seen[0] == [Message("user", "短く。\n\n1")]
    chat.set_persona(None)
    list(chat.regenerate())
    assert engine.seen[2] == [Message("user", "1")]
    assert store.load(chat.conversation.id).settings.persona is None


@pytest.mark.parametrize("persona", [None, ""])
def test_no_persona_changes_nothing(persona: str | None) -> None:
    messages = [Message("system", "s"), Message("user", "u"), Message("assistant", "a")]
    assert with_persona(messages, persona) == messages


def test_a_persona_leaves_system_and_answers_as_they_are() -> None:
    messages = [Message("system", "s"), Message("user", "u"), Message("assistant", "a")]
    assert with_persona(messages, "p") == [messages[0], Message("user", "p\n\nu"), messages[2]]


def test_a_question_whose_answer_never_began_becomes_a_sibling(store: HistoryStore) -> None:
    engine = ScriptedEngine(["a"], ["b"])
    chat = session(engine, store)
    say(chat, "1")
    chat.conversation.append(Message("user", "lost in between"))
    assert say(chat, "2") == "b"
    assert [message.content for message in engine.seen[1]] == ["1", "a", "2"]
    assert "lost in between" in {
        node.message.content for node in store.load(chat.conversation.id).nodes.values()
    }

"""Several processes on one history file: nothing is lost, nothing is locked, and the dead are known."""

import os
import sqlite3
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import psutil
import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.writer import is_alive, this_writer
from tests.support.history_data import FINISHED, FORK, UNFINISHED, talked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


def test_this_process_began_when_psutil_says() -> None:
    pid, _separator, began = this_writer().partition("@")
    assert int(pid) == os.getpid()
    assert abs(float(began) - psutil.Process().create_time()) < 1.5
    assert is_alive(this_writer())


def test_an_answer_whose_writer_is_gone_is_interrupted(path: Path) -> None:
    conversation = Conversation()
    process = FORK.Process(target=_begin_answer, args=(path, conversation.id))
    process.start()
    process.join()
    assert process.exitcode == 0
    with HistoryStore(path) as store:
        last = store.load(conversation.id).last("assistant")
        assert last is not None
        assert last.generation is not None
        assert last.message.content == "途中"
        assert last.generation.finish_reason == "interrupted"
        store.save(store.load(conversation.id))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM nodes WHERE finish_reason IS NULL").fetchone() == (2,)


def _begin_answer(path: Path, conversation_id: str) -> None:
    conversation = Conversation(id=conversation_id)
    conversation.append(Message("user", "質問"))
    conversation.append(Message("assistant", "途中"), generation=UNFINISHED)
    store = HistoryStore(path)
    store.save(conversation)


CHATS = 2
TURNS = 40


def test_processes_share_one_file(path: Path) -> None:
    """They start at the same moment on a file that does not exist, and write as fast as they can."""
    barrier = FORK.Barrier(CHATS)
    shared = Conversation()
    chats = [FORK.Process(target=_chat, args=(path, shared.id, barrier)) for _ in range(CHATS)]
    for chat in chats:
        chat.start()
    for chat in chats:
        chat.join()
    assert [chat.exitcode for chat in chats] == [0] * CHATS
    with HistoryStore(path) as store:
        assert sorted(one.messages for one in store.list()) == [2 * TURNS] * CHATS + [2 * TURNS * CHATS]
        for one in store.list():
            conversation = store.load(one.id)
            assert {node.message.content for node in conversation.nodes.values()} >= {
                f"{kind} {turn}" for kind in ("質問", "答え") for turn in range(TURNS)
            }
            assert all(
                node.generation.finish_reason == "stop"
                for node in conversation.nodes.values()
                if node.generation is not None
            )


def _chat(path: Path, shared_id: str, barrier: Barrier) -> None:
    """One conversation of its own, and one that all processes go on with."""
    own, shared = Conversation(), Conversation(id=shared_id)
    barrier.wait()
    with HistoryStore(path) as store:
        for turn in range(TURNS):
            for conversation in (own, shared):
                conversation.append(Message("user", f"質問 {turn}"))
                store.save(conversation)
                node = conversation.append(Message("assistant", ""), generation=UNFINISHED)
                store.save(conversation)
                for text in ("答", "答え", f"答え {turn}"):
                    store.update_node(conversation.id, conversation.update(node.id, text, UNFINISHED))
                store.update_node(conversation.id, conversation.update(node.id, f"答え {turn}", FINISHED))


def test_a_process_that_opens_the_file_in_use_keeps_its_hold_on_it(path: Path) -> None:
    """SQLite's locks are the process's: to close any of the files, opened beside it, would let go of them.

    The next process to open the file then takes itself for the only one, and cuts the shared index short
    under the first: SIGBUS.
    """
    begun, opened, over = FORK.Event(), FORK.Event(), FORK.Event()
    user = FORK.Process(target=_save_again_and_again, args=(path, begun, opened, over))
    user.start()  # now: a connection must not come along into it
    with HistoryStore(path) as store:
        store.save(talked())
        begun.set()
        assert opened.wait(30)
    reader = FORK.Process(target=_open_often, args=(path,))
    reader.start()
    reader.join()
    over.set()
    user.join()
    assert (user.exitcode, reader.exitcode) == (0, 0)
    with HistoryStore(path) as store:
        assert sorted(one.title for one in store.list()) == ["last", "質問 0", "質問 0"]


def _save_again_and_again(path: Path, begun: Event, opened: Event, over: Event) -> None:
    assert begun.wait(30)
    conversation = talked()
    with HistoryStore(path) as store:
        assert len(store.list()) == 1
        opened.set()
        while not over.is_set():
            store.save(conversation)
            store.load(conversation.id)
        last = talked()
        last.title = "last"
        store.save(last)


def _open_often(path: Path) -> None:
    for _ in range(200):
        with HistoryStore(path) as store:
            store.list()

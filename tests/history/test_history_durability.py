"""What a history survives: kills, a full disk, a directory that cannot be written."""

import os
import random
import resource
import signal
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore
from tests.support.history_data import FINISHED, FORK, UNFINISHED, full_disk, talked

STREAM = "たぬきは里山に住む動物です。" * 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


# --- SIGKILL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_chat_loses_nothing_that_was_saved(path: Path, kills: int) -> None:
    """The child says what it saved after every save; it is killed after a random number of those."""
    random_ = random.Random(8)
    interrupted = 0
    for _ in range(kills):
        acknowledged = _run_and_kill(path, after=random_.randrange(60))
        interrupted += _check(path, acknowledged)
    assert interrupted > kills // 4
    with HistoryStore(path) as store:
        assert store.verify() == []


def _run_and_kill(path: Path, *, after: int) -> list[tuple[str, int, int]]:
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_chat_for_ever, args=(path, sender))
    child.start()
    sender.close()
    acknowledged = [receiver.recv() for _ in range(after)]
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    try:
        while True:
            acknowledged.append(receiver.recv())
    except EOFError:
        receiver.close()
    return acknowledged


def _chat_for_ever(path: Path, sender: Connection) -> None:
    """Questions and growing answers; after every save: conversation, saved messages, saved length."""
    store = HistoryStore(path)
    while True:
        conversation = Conversation()
        for _ in range(2):
            conversation.append(Message("user", "質問"))
            store.save(conversation)
            sender.send((conversation.id, len(conversation.nodes), 0))
            node = conversation.append(Message("assistant", ""), generation=UNFINISHED)
            store.save(conversation)
            for length in range(1, len(STREAM) + 1):
                generation = UNFINISHED if length < len(STREAM) else FINISHED
                store.update_node(conversation.id, conversation.update(node.id, STREAM[:length], generation))
                sender.send((conversation.id, len(conversation.nodes), length))


def _check(path: Path, acknowledged: list[tuple[str, int, int]]) -> int:
    """Everything acknowledged is there; returns the number of answers marked as interrupted."""
    saved = {conversation_id: (nodes, length) for conversation_id, nodes, length in acknowledged}
    interrupted = 0
    with HistoryStore(path) as store:
        for conversation_id, (nodes, length) in saved.items():
            conversation = store.load(conversation_id)
            assert len(conversation.nodes) >= nodes
            for node in list(conversation.nodes.values())[1::2]:
                assert STREAM.startswith(node.message.content)
                assert node.generation is not None
                whole = node.message.content == STREAM
                assert node.generation.finish_reason == ("stop" if whole else "interrupted")
                interrupted += not whole
            assert len(list(conversation.nodes.values())[nodes - 1].message.content) >= length
    return interrupted


# --- disk and directory ---------------------------------------------------------------------------


@pytest.mark.parametrize("free_bytes", [0, 5000, 50_000])
def test_a_full_disk_loses_nothing_and_the_chat_catches_up(path: Path, free_bytes: int) -> None:
    conversation = talked()
    with HistoryStore(path) as store, HistoryStore(path) as reader:
        store.save(conversation)
        saved = reader.load(conversation.id)
        with full_disk(free_bytes, path):
            conversation.append(Message("user", "大きな質問" * 20_000))
            with pytest.raises(HistoryError, match="full") as caught:
                store.save(conversation)
            assert caught.value.hint
            assert reader.load(conversation.id) == saved
        conversation.append(Message("assistant", "答え"), generation=FINISHED)
        store.save(conversation)
        assert reader.load(conversation.id) == conversation
        assert reader.verify() == []


def test_a_disk_that_is_full_from_the_start_says_so(path: Path) -> None:
    conversation = talked()
    with HistoryStore(path) as store:
        with full_disk(100, path), pytest.raises(HistoryError, match="full"):
            store.save(conversation)
        store.save(conversation)
        assert store.load(conversation.id) == conversation


def test_a_disk_without_any_room_can_still_be_read(path: Path) -> None:
    """What it takes to make room: to see and to write elsewhere what is there."""
    conversation = talked()
    with HistoryStore(path) as store:
        store.save(conversation)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with HistoryStore(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            assert store.load(conversation.id) == conversation
            assert [one.id for one in store.list()] == [conversation.id]
            assert store.search("質問 1")[0].content == "質問 1"
            conversation.append(Message("user", "続き"))
            with pytest.raises(HistoryError, match="full"):
                store.save(conversation)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        store.save(conversation)  # there is room again
        assert store.load(conversation.id) == conversation


def test_a_file_in_the_place_of_the_directory_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with HistoryStore(blocked / "history.sqlite3") as store:
        for use in (store.list, lambda: store.save(talked())):
            with pytest.raises(HistoryError, match=r"history\.sqlite3") as caught:
                use()
            assert caught.value.hint
    assert blocked.read_text(encoding="utf-8") == "x"


def test_a_directory_that_cannot_be_written_can_be_read() -> None:
    """Root may write everywhere, so the child becomes nobody."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "history.sqlite3"
        conversation = talked()
        with HistoryStore(path) as store:
            store.save(conversation)
        path.chmod(0o444)
        directory.chmod(0o555)
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=_use_read_only, args=(path, conversation, sender))
        child.start()
        child.join()
        directory.chmod(0o755)
        assert child.exitcode == 0
        assert receiver.recv() == (True, True, True)
        assert [file.name for file in directory.iterdir()] == ["history.sqlite3"]


def _use_read_only(path: Path, conversation: Conversation, sender: Connection) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    store = HistoryStore(path)
    same = store.load(conversation.id) == conversation
    found = store.search("質問 1")[0].content == "質問 1"
    conversation.append(Message("user", "新しい"))
    try:
        store.save(conversation)
    except HistoryError as error:
        sender.send((same, found, bool(error.hint)))


def test_a_chat_moves_on_with_the_file_that_another_process_started(path: Path) -> None:
    conversation = talked()
    with HistoryStore(path) as chat, HistoryStore(path) as other:
        chat.save(conversation)
        path.rename(path.with_name("elsewhere"))
        other.save(talked())
        conversation.append(Message("user", "続き"))
        chat.save(conversation)
        assert other.load(conversation.id) == conversation
        assert len(other.list()) == 2

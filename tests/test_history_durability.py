"""What a history survives: kills, a full disk, a directory that cannot be written, damage."""

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Generation, Message
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore

# A child begins at once with what was imported here; nothing of a history is open when it is made.
FORK = multiprocessing.get_context("fork")
UNFINISHED = Generation(model="mame", finish_reason=None)
FINISHED = Generation(model="mame", finish_reason="stop")
STREAM = "たぬきは里山に住む動物です。" * 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


def talked(turns: int = 3, *, text: str = "") -> Conversation:
    conversation = Conversation()
    for turn in range(turns):
        conversation.append(Message("user", f"質問 {turn}"))
        conversation.append(Message("assistant", f"答え {turn} {text}"), generation=FINISHED)
    return conversation


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


@contextmanager
def full_disk(free_bytes: int, path: Path) -> Iterator[None]:
    """No file may grow more than ``free_bytes`` beyond the largest one of the history."""
    largest = max((file.stat().st_size for file in path.parent.glob(f"{path.name}*")), default=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def test_a_file_in_the_place_of_the_directory_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with HistoryStore(blocked / "history.sqlite3") as store:
        assert store.list() == []
        with pytest.raises(HistoryError, match="cannot be written") as caught:
            store.save(talked())
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


# --- damage ---------------------------------------------------------------------------------------


def _overwrite(start: int, length: int | None = None) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        end = len(data) if length is None else start + length
        data[start:end] = random.Random(1).randbytes(end - start)
        path.write_bytes(data)

    return damage


def _overwrite_end(path: Path) -> None:
    _overwrite(path.stat().st_size * 3 // 4)(path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 1000)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "header": _overwrite(0, 100),
    "first page": _overwrite(0, 4096),
    "schema": _overwrite(100, 3000),
    "everything": _overwrite(0),
    "half": _truncate,
    "last quarter": _overwrite_end,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_set_aside_and_a_new_one_started(path: Path, name: str) -> None:
    conversation = _damaged(path, name)
    damaged = path.read_bytes()
    notices: list[str] = []
    with HistoryStore(path, notify=notices.append) as store:
        assert store.list() == []
        (aside,) = path.parent.glob("history.sqlite3.corrupt-*")
        assert [notice for notice in notices if str(aside) in notice and "recover" in notice] == notices
        assert len(notices) == 1
        assert aside.read_bytes() == damaged
        conversation.append(Message("user", "それでも続ける"))
        store.save(conversation)
        assert store.load(conversation.id) == conversation
        assert store.verify() == []
    assert len(notices) == 1


@pytest.mark.parametrize("name", ["header", "first page", "schema", "half", "last quarter"])
def test_what_is_left_of_a_damaged_file_comes_back(path: Path, name: str) -> None:
    """All of it where only the beginning is lost; else the messages that are whole."""
    whole = _damaged(path, name)
    with HistoryStore(path) as store:
        assert store.list() == []
        report = store.recover()
        aside = report.recovered.path.read_bytes()
        assert report.recovered.messages == report.imported.messages > 0
        texts = {node.message.content for node in whole.nodes.values()}
        found = [store.load(one.id) for one in store.list()]
        assert {node.message.content for one in found for node in one.nodes.values()} <= texts
        if name in {"header", "first page"}:
            assert found == [whole]
        assert store.verify() == []
        assert store.recover().imported.messages == 0
        assert report.recovered.path.read_bytes() == aside


def _damaged(path: Path, name: str) -> Conversation:
    """A history with answers longer than a page, damaged; it must be unusable to SQLite."""
    conversation = talked(20, text="長い答え。" * 600)
    with HistoryStore(path) as store:
        store.save(conversation)
    DAMAGES[name](path)
    return conversation


def test_recovery_reads_what_is_only_in_the_log(path: Path) -> None:
    """A killed process leaves everything in the -wal file; then the header is lost as well."""
    child = FORK.Process(target=_save_and_die, args=(path,))
    child.start()
    child.join()
    assert path.with_name("history.sqlite3-wal").stat().st_size > 0
    aside = path.with_name("copy.sqlite3")
    path.rename(aside)
    path.with_name("history.sqlite3-wal").rename(path.with_name("copy.sqlite3-wal"))
    path.with_name("history.sqlite3-shm").unlink()
    with HistoryStore(path) as store:
        report = store.recover(aside)
        assert (report.recovered.messages, report.recovered.unreadable) == (6, 0)
        assert len(store.load(store.list()[0].id).path()) == 6


def _save_and_die(path: Path) -> None:
    HistoryStore(path).save(talked())
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_lost_message_does_not_take_those_after_it_along(path: Path) -> None:
    conversation = talked()
    with HistoryStore(path) as store:
        store.save(conversation)
    lost = conversation.path_nodes()[1]
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM search_texts")
        connection.execute("DELETE FROM nodes WHERE id = ?", (lost.id,))
    connection.close()
    aside = path.rename(path.with_name("damaged"))
    with HistoryStore(path) as store:
        report = store.recover(aside)
        assert (report.recovered.messages, report.recovered.detached) == (5, 1)
        found = store.load(conversation.id)
        assert [node.message.content for node in found.children(None)] == ["質問 0", "質問 1"]
        assert found.tip == conversation.tip


def test_there_may_be_nothing_to_recover(path: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(random.Random(3).randbytes(50_000))
    with HistoryStore(path) as store:
        with pytest.raises(HistoryError, match="no damaged history"):
            store.recover()
        with pytest.raises(HistoryError, match="Nothing could be read"):
            store.recover(noise)
        with pytest.raises(HistoryError, match="cannot be read"):
            store.recover(tmp_path / "none")
    assert not path.exists()


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

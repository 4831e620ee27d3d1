"""A damaged history: set aside, replaced by a new one, and what is left of it comes back."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.recovery import read_damaged, recover
from tests.support.history_data import FORK, talked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


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
        report = recover(store)
        aside = report.recovered.path.read_bytes()
        assert report.recovered.messages == report.imported.messages > 0
        texts = {node.message.content for node in whole.nodes.values()}
        found = [store.load(one.id) for one in store.list()]
        assert {node.message.content for one in found for node in one.nodes.values()} <= texts
        if name in {"header", "first page"}:
            assert found == [whole]
        assert store.verify() == []
        assert recover(store).imported.messages == 0
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
        report = recover(store, aside)
        assert (report.recovered.messages, report.recovered.unreadable) == (6, 0)
        assert len(store.load(store.list()[0].id).path()) == 6


def _save_and_die(path: Path) -> None:
    store = HistoryStore(path)
    store.save(talked())
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
        report = recover(store, aside)
        assert (report.recovered.messages, report.recovered.detached) == (5, 1)
        found = store.load(conversation.id)
        assert [node.message.content for node in found.children(None)] == ["質問 0", "質問 1"]
        assert found.tip == conversation.tip


def test_recovery_copes_with_any_bytes(path: Path, tmp_path: Path) -> None:
    """Whatever stands in the file, the answer is conversations or a sentence."""
    with HistoryStore(path) as store:
        store.save(talked(8, text="長い答え。" * 300))
    whole = path.read_bytes()
    random_ = random.Random(4)
    noise = tmp_path / "noise"
    recovered = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random_.choice([1, 30, 3000])):
            data[random_.randrange(len(data))] = random_.randrange(256)
        noise.write_bytes(data[: random_.choice([len(data), random_.randrange(len(data))])])
        with suppress(HistoryError):
            recovered += read_damaged(noise).messages > 0
    assert recovered > 30


def test_there_may_be_nothing_to_recover(path: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(random.Random(3).randbytes(50_000))
    with HistoryStore(path) as store:
        with pytest.raises(HistoryError, match="no damaged history"):
            recover(store)
        with pytest.raises(HistoryError, match="Nothing could be read"):
            recover(store, noise)
        with pytest.raises(HistoryError, match="cannot be read"):
            recover(store, tmp_path / "none")
    assert not path.exists()

"""A damaged history: set aside, replaced by a new one, and what is left of it comes back."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import HistoryError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.recovery import read_damaged, recover
from tanuki_cli.history.transfer import from_json, to_json
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


LOG_DAMAGES: dict[str, Callable[[bytearray, int], bytes]] = {
    "magic": lambda log, _frame: bytes(log[:1] + b"\xff" + log[2:]),
    "salts of the header": lambda log, _frame: bytes(log[:16] + b"\xff" + log[17:]),
    "salts of a frame": lambda log, frame: bytes(log[: frame + 8] + b"\xff" + log[frame + 9 :]),
    "a page": lambda log, frame: bytes(log[: frame + 2000] + b"\xff" + log[frame + 2001 :]),
    "zeros": lambda log, frame: bytes(log[:frame] + bytes(4120) + log[frame + 4120 :]),
    "cut in a frame": lambda log, frame: bytes(log[: frame + 2000]),
    "cut in the head of a frame": lambda log, frame: bytes(log[: frame + 10]),
}


@pytest.mark.parametrize("name", LOG_DAMAGES)
def test_a_log_that_ends_early_is_kept_and_told_once(path: Path, name: str) -> None:
    """SQLite would leave out what comes after the damage, and write over it."""
    conversations = [talked(2, text=f"会話 {number}") for number in range(8)]
    with HistoryStore(path) as store:
        for conversation in conversations:
            store.save(conversation)
        log = path.with_name(path.name + "-wal")
        content = {file: file.read_bytes() for file in (path, log)}
    for file, data in content.items():
        file.write_bytes(data)
    frame = 32 + 4120 * (len(content[log]) // 4120 // 2)
    log.write_bytes(LOG_DAMAGES[name](bytearray(content[log]), frame))
    notices: list[str] = []
    for _again in range(2):  # the second time there is nothing more to tell
        with HistoryStore(path, notify=notices.append) as store:
            early = [store.load(one.id) for one in store.list()]
            assert all(conversation in conversations for conversation in early)
    (aside,) = (file for file in path.parent.glob("*.corrupt-*") if not file.name.endswith("-wal"))
    assert [notice for notice in notices if str(aside) in notice] == notices
    assert len(notices) == 1
    with HistoryStore(path, notify=notices.append) as store:
        recover(store)
        found = [store.load(one.id) for one in store.list()]
        saved = conversations if not name.startswith("cut") else conversations[: len(found)]
        lost = {node.id for one in saved for node in one.nodes.values()} - {
            node.id for one in found for node in one.nodes.values()
        }
        assert not lost
        assert len(found) > len(early) or name.startswith("cut")
        assert store.verify() == []
    assert len(notices) == 1


def test_what_another_process_is_saving_is_no_damage(path: Path) -> None:
    """Between two connections that write in turn nothing is ever left out."""
    notices: list[str] = []
    with HistoryStore(path, notify=notices.append) as store:
        for turn in range(4):
            store.save(talked(1, text=str(turn)))
            with HistoryStore(path, notify=notices.append) as other:
                other.save(talked(1, text=f"other {turn}"))
                assert len(store.list()) == len(other.list()) == 2 * turn + 2
    assert notices == []
    assert not list(path.parent.glob("*.corrupt-*"))


DAMAGED_IDS = {
    "conversations.id": ("conversations", "id"),
    "nodes.id": ("nodes", "id"),
    "nodes.parent_id": ("nodes", "parent_id"),
}


@pytest.mark.parametrize("value", ["", "\0", "x" * 99, "たぬき", b"\xff\xfe", "0123456789abcde\0"])
@pytest.mark.parametrize("place", DAMAGED_IDS)
def test_texts_under_a_damaged_id_can_be_read_exported_recovered_and_removed(
    path: Path, place: str, value: str | bytes
) -> None:
    table, column = DAMAGED_IDS[place]
    conversation = talked(2)
    with HistoryStore(path) as store:
        store.save(conversation)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        old = connection.execute(f"SELECT {column} FROM {table} ORDER BY rowid DESC").fetchone()[0]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (value, old))
        if place == "conversations.id":
            connection.execute("UPDATE nodes SET conversation_id = ?", (value,))
    texts = {node.message.content for node in conversation.nodes.values()}
    with HistoryStore(path) as store:
        (summary,) = store.list()
        found = store.load(summary.id)
        assert {node.message.content for node in found.nodes.values()} == texts
        assert store.verify()
        (again,) = from_json(to_json([found]), name="export")
        assert again == found
        store.set_title(summary.id, "たぬきの話")
        assert store.load(summary.id[:6]).title == "たぬきの話"
        assert {hit.conversation_id for hit in store.search("質問")} == {summary.id}
        recovered = read_damaged(path)
        assert {n.message.content for one in recovered.conversations for n in one.nodes.values()} == texts
        found.append(Message("user", "それで?"))
        store.save(found)
        assert len(store.load(found.id).nodes) == len(texts) + 1
        while listed := store.list():
            store.delete(listed[0].id)
        assert store.search("質問") == []


def test_a_history_with_statements_of_its_own_or_without_its_tables_is_set_aside(path: Path) -> None:
    for statement in (
        "CREATE TRIGGER t BEFORE INSERT ON nodes BEGIN SELECT RAISE(ABORT, 'x'); END",
        "DROP TABLE nodes",
        "ALTER TABLE nodes RENAME COLUMN content TO text",
    ):
        with HistoryStore(path) as store:
            store.save(talked(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)
        notices: list[str] = []
        with HistoryStore(path, notify=notices.append) as store:
            store.save(talked(1))
            assert len(store.list()) == 1
        assert len(notices) == 1
        path.unlink()

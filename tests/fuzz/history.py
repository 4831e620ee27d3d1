"""Mutants of history databases: bytes of the file and of its log, rows, the schema, and files to import.

A maker knows which texts it left whole, and names them in the mutant: each must be readable afterwards, from
the history, or from what was set aside.

    python -m tests.fuzz.history --count 1000 --seed 1
"""

import base64
import json
import random
import sqlite3
import tempfile
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.recovery import recover
from tanuki_cli.history.transfer import ExportFormat, export_text, from_json
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes
from tests.support.history_data import FINISHED

NAME = "history.sqlite3"
LOG = f"{NAME}-wal"
IMPORT = "import.json"
PAGE = 4096
_FRAME = 24 + PAGE
Files = dict[str, bytes]
_TABLES = ("conversations", "nodes", "search_texts")


@lru_cache
def bases() -> tuple[Files, ...]:
    """A closed history, and one whose process was killed: a part of it is only in the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        with HistoryStore(path) as store:
            for number in range(6):
                store.save(_conversation(number))
        closed = {NAME: path.read_bytes()}
        with HistoryStore(path) as store:
            for number in range(6, 10):
                store.save(_conversation(number))
            killed = {NAME: path.read_bytes(), LOG: Path(folder, LOG).read_bytes()}
    return closed, killed


def _conversation(number: int) -> Conversation:
    conversation = Conversation(system="短く" if number % 2 else None)
    for turn in range(4):
        conversation.append(Message("user", f"質問 {_mark(number, turn, 0)} たぬきは?"))
        filling = "長い答え。" * (900 if turn == 3 and number % 3 == 0 else 20)
        conversation.append(Message("assistant", f"{_mark(number, turn, 1)} {filling}"), generation=FINISHED)
    return conversation


def _mark(number: int, turn: int, side: int) -> str:
    return f"text-{number:02}-{turn}-{side}."


MARKS = tuple(_mark(number, turn, side) for number in range(10) for turn in range(4) for side in (0, 1))


def make(random_: random.Random, path: Path) -> str:
    """One mutant, its files in one, as JSON."""
    name, mutate = random_.choice(MUTATIONS)
    base = random_.choice(bases())
    files, whole = mutate(random_, base)
    encoded = {name: base64.b64encode(data).decode() for name, data in files.items()}
    path.write_text(json.dumps({"files": encoded, "whole": sorted(whole)}))
    return name


def _whole(base: Files, changed: Files) -> set[str]:
    """The texts all of whose pages are as they were, in the file or in the log."""
    whole: set[str] = set()
    for name, header, size in ((NAME, 0, PAGE), (LOG, 32, _FRAME)):
        before, after = base.get(name, b""), changed.get(name, b"")
        for start in range(header, len(before), size):
            if before[start : start + size] == after[start : start + size]:
                # A frame is read by the salts in its head, and those of the log's.
                whole |= {mark for mark in MARKS if _stands_alone(before[start : start + size], mark)}
    return whole


def _stands_alone(page: bytes, mark: str) -> bool:
    """Whether the row of ``mark`` is on this page and on no other; titles and folded texts do not count."""
    question = mark.endswith("-0.")
    row = f"user質問 {mark}" if question else f"assistant{mark}"
    at = page.find(row.encode())
    end = page.find(b"2026-", at) if at >= 0 else -1
    return end >= 0 and page.find(b"text-", at + len(row.encode()), end) < 0


def _header(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    data = bytearray(base[NAME])
    for _index in range(random_.choice((1, 1, 4))):
        at = random_.randrange(100)
        data[at] = random_.choice((0, 1, 0xFF, random_.randrange(256)))
    changed = {**base, NAME: bytes(data)}
    return changed, _whole(base, changed)


def _bytes(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    name = random_.choice(list(base))
    change = random_.choice((flip_bits, spoil_bytes))
    changed = {**base, name: change(random_, base[name], below=random_.choice((100, PAGE, None)))}
    # Where all that follows is at another place, nothing is promised but what SQLite itself still reads.
    same = len(changed[name]) == len(base[name])
    return changed, _whole(base, changed) if same else set()


def _pages(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    data = bytearray(base[NAME])
    count = len(data) // PAGE
    for _index in range(random_.choice((1, 1, 3))):
        at, other = (random_.randrange(count) * PAGE for _i in range(2))
        data[at : at + PAGE] = random_.choice(
            (bytes(PAGE), random_.randbytes(PAGE), bytes(data[other : other + PAGE]), b"\xff" * PAGE)
        )
    changed = {**base, NAME: bytes(data)}
    return changed, _whole(base, changed)


def _log(random_: random.Random, _base: Files) -> tuple[Files, set[str]]:
    base = bases()[1]
    log = base[LOG]
    frame = 32 + random_.randrange(len(log) // _FRAME) * _FRAME
    action = random_.randrange(5)
    if action == 0:
        log = log[: random_.choice((frame, frame + 24, frame + random_.randrange(_FRAME), 10, 31, 0))]
    elif action == 1:
        log = flip_bits(random_, log, below=32)
    elif action == 2:
        log = log[:frame] + flip_bits(random_, log[frame : frame + 24]) + log[frame + 24 :]
    elif action == 3:
        log = log[:frame] + flip_bits(random_, log[frame : frame + _FRAME]) + log[frame + _FRAME :]
    else:
        log = log[:frame] + bytes(_FRAME) + log[frame + _FRAME :]
    changed = {**base, LOG: log}
    if random_.random() < 0.2:
        changed[f"{NAME}-shm"] = random_.randbytes(32768)
    return changed, _whole(base, changed)


def _value(random_: random.Random) -> Any:
    value = random_.choice(
        (*numbers(), -1, 1.5, 1e308, None, "", "\0", "x" * 100_000, b"\xff\xfe", "たぬき", "{}", "[]",
         "[" * 9999,
         "0001-01-01T00:00:00.000000+00:00", "9999-12-31T23:59:59.999999+00:00", "auto", "user", "stop",
         "0123456789abcdef", '{"model": 1}', '{"sampling": {"temperature": 3.5, "top_k": 2147483648}}')
    )  # fmt: skip
    return value if not isinstance(value, int) or value < 1 << 63 else float(value)


def _rows(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    """Values that no writer stores."""
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder), base)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            before = _contents(connection)
            for _index in range(random_.choice((1, 3, 10))):
                with suppress(sqlite3.Error, OverflowError):
                    _change_row(random_, connection)
            after = _contents(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole = {
            mark
            for mark in MARKS
            for node, row in before.items()
            if after.get(node) == row and mark in row[0]
        }
        return {NAME: path.read_bytes()}, whole


def _contents(connection: sqlite3.Connection) -> dict[str, tuple[Any, ...]]:
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    rows = connection.execute(
        "SELECT nodes.rowid, content, role, nodes.id, conversation_id, typeof(content) FROM nodes "
        "JOIN conversations ON conversations.id = conversation_id"
    ).fetchall()
    return {row[0]: row[1:] for row in rows}


def _change_row(random_: random.Random, connection: sqlite3.Connection) -> None:
    table = random_.choice(_TABLES)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    rowids = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")]
    column, rowid = random_.choice(columns), random_.choice(rowids)
    action = random_.randrange(8)
    if action == 0:
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
    elif action == 1:
        value = random_.choice((b"caf\xe9", b"\xff" * 10, b"", b"\xed\xa0\x80"))
        connection.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE rowid = ?", (value, rowid))
    elif action == 2:
        connection.execute(f"UPDATE {table} SET {column} = {column} || ? WHERE rowid = ?", ("\0", rowid))
    else:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (_value(random_), rowid))


def _schema(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    """Another version, or a schema that lacks something."""
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder), base)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            names = [
                (row[0], row[1])
                for row in connection.execute("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL")
            ]
            kind, name = random_.choice(names)
            whole = set(MARKS)
            with suppress(sqlite3.Error):
                action = random_.randrange(5)
                if action == 0:
                    connection.execute(f"PRAGMA user_version = {random_.choice((0, 1, 99, -1, 2**31 - 1))}")
                elif action == 1:
                    connection.execute(f'DROP {kind} "{name}"')
                    whole = set() if name in {"nodes", "conversations"} else whole
                elif action == 2:
                    connection.execute("PRAGMA writable_schema = ON")
                    sql = random_.choice(
                        ("CREATE TABLE x (y)", "", "nonsense", "CREATE TABLE nodes (number)")
                    )
                    connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))
                elif action == 3:
                    connection.execute(f'CREATE VIEW "x{name}" AS SELECT 1')
                    connection.execute(
                        "CREATE TRIGGER t BEFORE INSERT ON nodes BEGIN SELECT RAISE(ABORT, 'x'); END"
                    )
                else:
                    connection.execute("PRAGMA journal_mode = DELETE")
                    connection.execute(f"PRAGMA page_size = {random_.choice((512, 8192, 65536))}")
                    connection.execute("VACUUM")
        data = path.read_bytes()
        log = Path(folder, LOG)
        texts = data + (log.read_bytes() if log.exists() else b"")
        return {NAME: data}, {mark for mark in whole if mark.encode() in texts}


def _import(random_: random.Random, base: Files) -> tuple[Files, set[str]]:
    """An export with values in it that no export has."""
    document = json.loads(_export())
    for _index in range(random_.choice((1, 1, 5))):
        place: Any = document
        while True:
            key = random_.choice(list(place) if isinstance(place, dict) else [*range(len(place))])
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and random_.random() < 0.9:
                place = inner
                continue
            break
        if random_.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            value = _value(random_)
            place[key] = (
                random_.choice((str(value), value)) if not isinstance(value, bytes) else "\ud800\udfff\ud800"
            )
        if not document:
            break
    text = json.dumps(document).encode()
    if random_.random() < 0.2:
        text = random_.choice((flip_bits, spoil_bytes))(random_, text)
    return {**base, IMPORT: text}, _whole(base, base)


@lru_cache
def _export() -> str:
    return export_text([_conversation(number) for number in range(20, 23)], format="json")


def _write(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / NAME


MUTATIONS = (
    ("the header", _header),
    ("bytes", _bytes),
    ("pages", _pages),
    ("the log", _log),
    ("the log", _log),
    ("rows", _rows),
    ("rows", _rows),
    ("the schema", _schema),
    ("an import", _import),
)


def attempt(path: Path) -> str:
    """Read it all, as every command does; recover what was set aside; go on talking."""
    content = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        history = _write(folder, {name: base64.b64decode(data) for name, data in content["files"].items()})
        notices: list[str] = []
        with HistoryStore(history, notify=notices.append) as store:
            outcome = _use(store, folder, notices)
            lost = set(content["whole"]) - _marks(store)
        assert not lost, f"intact, but lost: {sorted(lost)[:5]} of {len(lost)}; told: {notices}"
        return outcome


def _use(store: HistoryStore, folder: Path, notices: list[str]) -> str:
    refused: HistoryError | None = None
    try:
        _read_all(store, folder)
    except HistoryError as exc:
        refused = exc
    aside = [file for file in folder.glob(f"{NAME}.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]
    assert bool(aside) == any("corrupt-" in notice for notice in notices), (
        f"set aside {aside}, told {notices}"
    )
    if refused is not None:
        assert refused.hint
        assert not aside, "neither read nor set aside"
        aside = [store.path]
    for file in aside:
        with suppress(HistoryError):  # nothing could be read
            recover(store, file)
    _go_on(store)
    if refused is not None:
        return "refused, recovered"
    return "set aside" if aside else "read"


def _read_all(store: HistoryStore, folder: Path) -> None:
    conversations = [store.load(one.id) for one in store.list()]
    store.search("質問", limit=100)
    store.search("た")
    store.verify()
    forms: tuple[ExportFormat, ...] = ("json", "jsonl", "markdown")
    for form in forms:
        text = export_text(conversations, format=form)
        text.encode("utf-8")
        if form == "json":
            problems: list[str] = []
            again = from_json(text, name="export", report=problems.append)
            assert len(again) == len(conversations), f"exported, but not imported: {problems[:3]}"
    if (folder / IMPORT).exists():
        with suppress(InputError):
            store.add(from_json((folder / IMPORT).read_text("utf-8", "replace"), name="import"))
            for one in store.list():
                store.load(one.id)


def _go_on(store: HistoryStore) -> None:
    conversation = _conversation(30)
    store.save(conversation)
    assert store.load(conversation.id) == conversation


def _marks(store: HistoryStore) -> set[str]:
    texts = [node.message.content for one in store.list() for node in store.load(one.id).nodes.values()]
    return {mark for mark in MARKS if any(mark in text for text in texts)}


if __name__ == "__main__":
    main((("tests.fuzz.history", ".json", make),), __doc__ or "")

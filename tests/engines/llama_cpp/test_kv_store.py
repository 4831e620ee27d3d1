"""The folder of KV states: what is found, what is thrown away, what is never in the way."""

import contextlib
import os
import struct
import threading
from pathlib import Path

import pytest

from tanuki_cli.engines.llama_cpp.kv_store import KvStore, state_key

KEY = "0123456789abcdef"


def state(ids: list[int], payload: bytes = b"kv") -> bytes:
    return struct.pack(f"<4sII{len(ids)}i", b"qsgg", 3, len(ids), *ids) + payload


def keep(store: KvStore, ids: list[int], *, key: str = KEY, payload: bytes = b"kv", head: int = 0) -> bool:
    content = state(ids, payload)

    def write(path: Path) -> int:
        return path.write_bytes(content)

    return store.save(key, ids, write, nbytes=len(content), head=head)


def names(store: KvStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_the_state_that_shares_most_is_found(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv")
    assert store.find(KEY, [1, 2, 3], more_than=0) is None
    for ids in ([1, 2, 9], [1, 2, 3, 4, 8], [7, 7, 7]):
        assert keep(store, ids)
    path = store.find(KEY, [1, 2, 3, 4, 5], more_than=0)
    assert path is not None
    assert path.read_bytes() == state([1, 2, 3, 4, 8])
    assert store.find(KEY, [1, 2, 3, 4, 5], more_than=4) is None
    assert store.find("f" * 16, [1, 2, 3, 4, 5], more_than=0) is None


def test_private_and_nothing_left_behind(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "cache" / "kv")
    assert keep(store, [1, 2, 3])
    (only,) = store.folder.iterdir()
    assert only.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700


def test_longer_state_replaces_the_earlier_one_but_not_the_head(tmp_path: Path) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2], head=2)
    keep(store, [1, 2, 3, 4], head=2)
    keep(store, [1, 2, 3, 4, 5, 6], head=2)
    keep(store, [1, 2, 3, 9], head=2)
    found = [store.find(KEY, ids, more_than=0) for ids in ([1, 2], [1, 2, 3, 4, 5, 6], [1, 2, 3, 9])]
    assert len(names(store)) == 3
    assert len({path for path in found if path}) == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "header", "empty"])
def test_damaged_states_are_thrown_away(tmp_path: Path, damage: str) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2, 3], payload=bytes(1000))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-10] ^= 1
    elif damage == "truncate":
        del content[-10:]
    elif damage == "header":
        content[:12] = b"\xff" * 12
    else:
        content.clear()
    path.write_bytes(content)
    assert store.find(KEY, [1, 2, 3, 4], more_than=0) is None
    assert keep(store, [1, 2, 3])
    assert store.find(KEY, [1, 2, 3, 4], more_than=0) is not None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = len(state([1, 1, 1], bytes(1000)))
    store = KvStore(tmp_path, max_bytes=3 * size)
    for index in range(3):
        keep(store, [index, 1, 1], payload=bytes(1000))
    for age, path in enumerate(sorted(tmp_path.iterdir())):
        os.utime(path, (age, age))
    used = store.find(KEY, [0, 1, 1], more_than=0)
    assert used is not None
    keep(store, [3, 1, 1], payload=bytes(1000))
    assert len(names(store)) == 3
    assert used.exists()


def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv", max_bytes=1000)
    assert not keep(store, [1], payload=bytes(2000))
    assert not store.save(KEY, [1], lambda _path: 0, nbytes=10)

    def fail(_path: Path) -> int:
        raise OSError(28, "No space left on device")

    assert not store.save(KEY, [1], fail, nbytes=10)
    assert not store.save(KEY, [1], lambda path: path.write_bytes(b"cut") + 1, nbytes=10)
    assert names(store) == []
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert not keep(KvStore(blocked), [1])
    assert KvStore(blocked).find(KEY, [1], more_than=0) is None


def test_two_users_of_one_folder(tmp_path: Path) -> None:
    size = len(state([1] * 50, bytes(5000)))
    store = KvStore(tmp_path, max_bytes=4 * size)

    def work(worker: int) -> None:
        for turn in range(40):
            ids = [worker % 2, *range(turn % 5, 49 + turn % 5)]
            keep(store, ids, payload=bytes(5000))
            path = store.find(KEY, ids, more_than=0)
            if path is not None:
                with contextlib.suppress(FileNotFoundError):  # another user needed the room
                    magics.append(path.read_bytes()[:4])

    magics: list[bytes] = []
    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(magics) == {b"qsgg"}
    assert not any(name.endswith(".part") for name in names(store))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * size


def test_key_names_file_and_settings(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"1")
    key = state_key(model, "f16", "CPU")
    link = tmp_path / "link.gguf"
    link.symlink_to(model)
    assert state_key(link, "f16", "CPU") == key
    assert state_key(model, "q8_0", "CPU") != key
    model.write_bytes(b"22")
    assert state_key(model, "f16", "CPU") != key

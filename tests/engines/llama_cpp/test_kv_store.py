"""The folder of KV states: what is found, what is thrown away, what is never in the way."""

import contextlib
import hashlib
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tanuki_cli.engines.llama_cpp.kv_store import Fits, KvStore, state_key

KEY = "0123456789abcdef"


def anything(_path: Path) -> bool:
    """The layout is tried where there is a real context."""
    return True


def state(ids: list[int], payload: bytes = b"kv") -> bytes:
    return struct.pack(f"<4sII{len(ids)}i", b"qsgg", 3, len(ids), *ids) + payload


def keep(store: KvStore, ids: list[int], *, key: str = KEY, payload: bytes = b"kv", head: int = 0) -> bool:
    content = state(ids, payload)

    def write(path: Path) -> int:
        return path.write_bytes(content)

    return store.save(key, ids, write, nbytes=len(content), fits=anything, head=head)


def find(
    store: KvStore, ids: list[int], *, key: str = KEY, more_than: int = 0, fits: Fits = anything
) -> Path | None:
    return store.find(key, ids, more_than=more_than, fits=fits)


def states(store: KvStore) -> list[Path]:
    return sorted(store.folder.glob("*.kv"))


def test_the_state_that_shares_most_is_found(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv")
    assert find(store, [1, 2, 3]) is None
    for ids in ([1, 2, 9], [1, 2, 3, 4, 8], [7, 7, 7]):
        assert keep(store, ids)
    path = find(store, [1, 2, 3, 4, 5])
    assert path is not None
    assert path.read_bytes() == state([1, 2, 3, 4, 8])
    assert find(store, [1, 2, 3, 4, 5], more_than=4) is None
    assert find(store, [1, 2, 3, 4, 5], key="f" * 16) is None


def test_private_and_nothing_left_behind(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "cache" / "kv")
    assert keep(store, [1, 2, 3])
    (only,) = states(store)
    assert only.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700


def test_longer_state_replaces_the_earlier_one_but_not_the_head(tmp_path: Path) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2], head=2)
    keep(store, [1, 2, 3, 4], head=2)
    keep(store, [1, 2, 3, 4, 5, 6], head=2)
    keep(store, [1, 2, 3, 9], head=2)
    found = [find(store, ids) for ids in ([1, 2], [1, 2, 3, 4, 5, 6], [1, 2, 3, 9])]
    assert len(states(store)) == 3
    assert len({path for path in found if path}) == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "header", "empty"])
def test_damaged_states_are_thrown_away(tmp_path: Path, damage: str) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2, 3], payload=bytes(1000))
    (path,) = states(store)
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
    assert find(store, [1, 2, 3, 4]) is None
    assert keep(store, [1, 2, 3])
    assert find(store, [1, 2, 3, 4]) is not None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = len(state([1, 1, 1], bytes(1000)))
    store = KvStore(tmp_path, max_bytes=3 * size)
    for index in range(3):
        keep(store, [index, 1, 1], payload=bytes(1000))
    now = time.time()
    for age, path in enumerate(states(store)):
        os.utime(path, (now - 90 + age, now - 90 + age))
    used = find(store, [0, 1, 1])
    assert used is not None
    keep(store, [3, 1, 1], payload=bytes(1000))
    assert len(states(store)) == 3
    assert used.exists()


def test_what_nobody_used_for_long_is_removed(tmp_path: Path) -> None:
    store = KvStore(tmp_path)
    for ids in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
        keep(store, ids)
    ages = dict(zip(states(store), (31, 29, 0), strict=True))
    for path, days in ages.items():
        os.utime(path, (time.time() - 86400 * days,) * 2)
    assert find(store, [0]) is None  # looking is enough
    assert states(store) == [path for path, days in ages.items() if days < 30]


def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv", max_bytes=1000)
    assert not keep(store, [1], payload=bytes(2000))
    assert not store.save(KEY, [1], lambda _path: 0, nbytes=10, fits=anything)

    def fail(_path: Path) -> int:
        raise OSError(28, "No space left on device")

    assert not store.save(KEY, [1], fail, nbytes=10, fits=anything)
    assert not store.save(KEY, [1], lambda path: path.write_bytes(b"cut") + 1, nbytes=10, fits=anything)
    assert states(store) == []
    assert not list(store.folder.glob("*.part"))
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert not keep(KvStore(blocked), [1])
    assert find(KvStore(blocked), [1]) is None


def test_two_users_of_one_folder(tmp_path: Path) -> None:
    size = len(state([1] * 50, bytes(5000)))
    store = KvStore(tmp_path, max_bytes=4 * size)

    def work(worker: int) -> None:
        for turn in range(40):
            ids = [worker % 2, *range(turn % 5, 49 + turn % 5)]
            keep(store, ids, payload=bytes(5000))
            path = find(store, ids)
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
    assert not list(tmp_path.glob("*.part"))
    assert sum(path.stat().st_size for path in states(store)) <= 4 * size


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


def test_every_part_of_a_split_model_counts(tmp_path: Path) -> None:
    parts = [tmp_path / f"model-{number:05}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"1")
    key = state_key(parts[0])
    parts[1].write_bytes(b"22")
    assert state_key(parts[0]) != key


def test_what_another_layout_wrote_is_thrown_away(tmp_path: Path) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2, 3])
    assert find(store, [1, 2, 3], fits=lambda _path: False) is None
    assert states(store) == []


def test_only_what_this_user_wrote_is_used(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv")
    keep(store, [1, 2, 3])
    assert find(store, [1, 2, 3]) is not None
    # The same content, digested without the secret, as anybody could.
    content = state([4, 5, 6])
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    (store.folder / f"{KEY}-{digest}.kv").write_bytes(content)
    assert find(store, [4, 5, 6]) is None
    secret = store.folder / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o644)  # others may know it now
    assert find(store, [1, 2, 3]) is None
    keep(store, [7, 8, 9])
    assert secret.stat().st_mode & 0o777 == 0o600
    assert find(store, [7, 8, 9]) is not None


def test_a_folder_that_others_could_write_to_is_closed_first(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv")
    keep(store, [1, 2, 3])
    store.folder.chmod(0o777)
    assert find(store, [1, 2, 3]) is not None
    assert store.folder.stat().st_mode & 0o777 == 0o700
    linked = KvStore(tmp_path / "link")
    linked.folder.symlink_to(store.folder)
    assert find(linked, [1, 2, 3]) is None
    assert not keep(linked, [1, 2, 3])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    store = KvStore(tmp_path / "kv")
    keep(store, [1, 2, 3])
    os.chown(store.folder, 12345, -1)
    assert find(store, [1, 2, 3]) is None
    assert not keep(store, [4, 5, 6])


def test_what_killed_saves_left_is_removed_and_what_others_write_stays(tmp_path: Path) -> None:
    store = KvStore(tmp_path, max_bytes=20_000)
    script = (
        "import os, sys, time; from pathlib import Path;"
        "from tanuki_cli.engines.llama_cpp.kv_store import KvStore;"
        "write = lambda path: (path.write_bytes(bytes(9000)), print(path, flush=True), time.sleep(600))[0];"
        "KvStore(Path(sys.argv[1])).save('k', [1], write, nbytes=1, fits=lambda path: True)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as saving:
        assert saving.stdout is not None
        part = Path(saving.stdout.readline().strip())
        assert keep(store, [1, 2, 3], payload=bytes(6000))
        assert part.exists()
        assert keep(store, [4, 5, 6], payload=bytes(6000))  # three do not fit the cap
        assert len(states(store)) == 1
        saving.kill()
    assert part.exists()
    assert find(store, [4, 5, 6]) is not None
    assert not part.exists()


def test_pipes_in_place_of_states_are_no_trouble(tmp_path: Path) -> None:
    store = KvStore(tmp_path)
    keep(store, [1, 2, 3])
    os.mkfifo(tmp_path / f"{KEY}-{'0' * 32}.kv")
    os.mkfifo(tmp_path / "0.part")
    assert find(store, [1, 2, 3]) is not None
    (tmp_path / "secret").unlink()
    os.mkfifo(tmp_path / "secret")
    assert find(store, [1, 2, 3]) is None
    assert keep(store, [4, 5, 6])

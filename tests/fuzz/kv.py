"""Mutants of KV state files, each under the right digest: what their author knew the secret of.

python -m tests.fuzz.kv --count 1000 --seed 1
"""

import random
import shutil
import struct
import tempfile
from functools import lru_cache
from itertools import islice
from pathlib import Path

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, _digest
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.fuzz import gguf
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

PROMPT = [1, *range(300, 340)]
OTHER = [1, *range(400, 420)]
GREEDY = SamplingOptions(temperature=0.0, seed=1)
KEY = "0123456789abcdef"


class _Setting:
    """A model, and a state of it; made once in a process."""

    def __init__(self, kv_type: str) -> None:
        from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp

        self.folder = Path(tempfile.mkdtemp(prefix="tanuki-fuzz-"))
        path = self.folder / "model.gguf"
        path.write_bytes(gguf.model().encoded())
        settings = Settings(context_length=128, threads=1, kv_type=kv_type)
        self.model = load_llama_cpp(LocalModel(name="fuzz", format="gguf", path=path), settings, debug=False)
        self.store = KvStore(self.folder / "kv")

    def answer(self, prompt: list[int]) -> list[int]:
        return list(islice(token_ids(self.model.generate(prompt, GREEDY)), 2))

    def state(self) -> bytes:
        """A state as it should be, of the prompt and no answer."""
        self.model.use_store(self.store, KEY)
        self.answer(PROMPT)
        self.model.save_state()
        (path,) = self.store.folder.glob("*.kv")
        data = path.read_bytes()
        path.unlink()
        return data


@lru_cache
def _setting(kv_type: str) -> _Setting:
    return _Setting(kv_type)


@lru_cache
def states() -> tuple[bytes, ...]:
    try:
        return tuple(_setting(kind).state() for kind in KINDS)
    finally:
        for kind in KINDS:
            _setting(kind).model.close()
            shutil.rmtree(_setting(kind).folder)


KINDS = ("f16", "q8_0")


def make(random_: random.Random, path: Path) -> str:
    """One mutant; its name says which model it is for."""
    which = random_.randrange(len(KINDS))
    name, mutate = random_.choice(MUTATIONS)
    path.write_bytes(bytes([which]) + mutate(random_, states()[random_.choice((which, which, which, 0))]))
    return name


def _count(data: bytes) -> int:
    return int.from_bytes(data[8:12], "little")


def _cells_at(data: bytes) -> int:
    return 12 + 4 * _count(data)


def _body_at(data: bytes) -> int:
    return _cells_at(data) + 8 + 12 * _count(data)


def _whole(_random: random.Random, data: bytes) -> bytes:
    return data


def _head(random_: random.Random, data: bytes) -> bytes:
    return flip_bits(random_, data, below=12)


def _cells(random_: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    at = random_.randrange(_cells_at(data), _body_at(data), 4)
    changed[at : at + 4] = struct.pack("<I", random_.choice([*numbers()]) & 0xFFFFFFFF)
    return bytes(changed)


def _body(random_: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    at = _body_at(data) + random_.randrange(24)
    changed[at] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _numbers(random_: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _index in range(random_.choice((1, 100))):
        at = random_.randrange(_body_at(data), len(data) - 8)
        changed[at : at + 4] = random_.choice((b"\xff" * 4, random_.randbytes(4)))
    return bytes(changed)


def _flipped(random_: random.Random, data: bytes) -> bytes:
    return flip_bits(random_, data, below=random_.choice((_body_at(data) + 40, None)))


def _spoiled(random_: random.Random, data: bytes) -> bytes:
    return spoil_bytes(random_, data, below=random_.choice((_body_at(data) + 40, None)))


def _fewer(random_: random.Random, data: bytes) -> bytes:
    own = _count(data)
    count = random_.choice((0, 1, own - 1, own + 1, 1 << 24, (1 << 32) - 1))
    return data[:8] + struct.pack("<I", count) + data[12:]


MUTATIONS = (
    ("nothing", _whole),
    ("the head", _head),
    ("the cells", _cells),
    ("the heads of layers", _body),
    ("the numbers", _numbers),
    ("bits flipped", _flipped),
    ("bytes spoiled", _spoiled),
    ("another count", _fewer),
)


def attempt(path: Path) -> str:
    """Put it into the store, as if it had been written here, and go on with its conversation."""
    content = path.read_bytes()
    setting = _setting(KINDS[content[0]])
    setting.model.use_store(KvStore(setting.folder / "none"), KEY)
    setting.answer(OTHER)  # what the cache holds is of no use then
    setting.model.use_store(setting.store, KEY)
    folder = setting.store.folder
    folder.mkdir(exist_ok=True, mode=0o700)
    state = folder / "state"
    state.write_bytes(content[1:])
    state.rename(folder / f"{KEY}-{_digest(state, setting.store._secret(make=True))}.kv")
    try:
        assert len(setting.answer([*PROMPT, 500, 501])) == 2
    except DamagedModelError:  # some of its numbers were none: nothing of that may stay
        setting.model.use_store(KvStore(setting.folder / "none"), KEY)
        assert len(setting.answer([*PROMPT, 500, 501])) == 2
        return "restored, no numbers"
    finally:
        for left in folder.glob("*.kv"):
            left.unlink()
    return "restored" if setting.model.cached_tokens > 10 else "thrown away"


if __name__ == "__main__":
    main((("tests.fuzz.kv", ".kv", make),), __doc__ or "")

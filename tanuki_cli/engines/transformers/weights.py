"""Weight files of a checkpoint, read by their headers only.

Only safetensors count: opening a pickle runs whatever code is inside it.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tanuki_cli.errors import DamagedModelError, EngineError, brief
from tanuki_cli.i18n import _

Dtype = Literal["float32", "float16", "bfloat16"]
BYTES_PER_VALUE: Final[Mapping[Dtype, int]] = {"float32": 4, "float16": 2, "bfloat16": 2}

_DTYPES: Final[Mapping[str, Dtype]] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX_SUFFIX: Final = ".safetensors.index.json"
_LENGTH: Final = struct.Struct("<Q")
_MAX_HEADER: Final = 100_000_000
"""Largest header that the safetensors format allows, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """The weights of one checkpoint.

    ``entry`` is the name of the one file, or of the index over several. ``bytes`` counts the data of
    all tensors. ``dtype`` is what most of the floating-point data is in.
    """

    entry: str
    bytes: int
    dtype: Dtype


def find_weights(directory: Path) -> WeightFiles:
    """Find the safetensors files of ``directory`` and check that they are all there and whole.

    Raises EngineError, with a sentence of its own for a checkpoint that has only pickles.
    """
    entry = _find_entry(directory)
    names = _shards(entry) if entry.name.endswith(_INDEX_SUFFIX) else [entry.name]
    total = 0
    floats: Counter[Dtype] = Counter()
    for name in names:
        for dtype, size in _tensors(directory / name):
            total += size
            if dtype in _DTYPES:
                floats[_DTYPES[dtype]] += size
    if not floats:
        raise DamagedModelError(_("{path} holds no weights that this program can read.").format(path=entry))
    return WeightFiles(entry=entry.name, bytes=total, dtype=floats.most_common(1)[0][0])


def _find_entry(directory: Path) -> Path:
    for name in ("model.safetensors", f"model{_INDEX_SUFFIX}"):
        if (directory / name).is_file():
            return directory / name
    # AutoGPTQ names its file after the method: gptq_model-4bit-128g.safetensors.
    for pattern in (f"*{_INDEX_SUFFIX}", "*.safetensors"):
        found = sorted(directory.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise DamagedModelError(
                _("{path} holds several weight files and no index that joins them.").format(path=directory)
            )
    if any(True for pattern in _PICKLES for _path in directory.glob(pattern)):
        raise EngineError(
            _(
                "{path} has its weights only as pickles, which could run any code; only safetensors are read."
            ).format(path=directory),
            hint=_("Use a repository with .safetensors files: tanuki models"),
        )
    raise DamagedModelError(_("{path} holds no .safetensors file.").format(path=directory))


def _shards(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as exc:
        raise _broken(index, exc) from exc
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise _broken(index, repr(name))
        if not (index.parent / name).is_file():
            raise DamagedModelError(
                _("The weight file {path} is missing.").format(path=brief(index.parent / name))
            )
    return sorted(names)


def _tensors(path: Path) -> Iterator[tuple[str, int]]:
    """Type name and byte count of every tensor in ``path``; the file must be as long as they say."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            if length > min(_MAX_HEADER, size):
                raise ValueError(_("not a safetensors file"))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        spans = [(str(entry["dtype"]), *_offsets(entry["data_offsets"])) for entry in header.values()]
        expected = _LENGTH.size + length + max((end for _dtype, _start, end in spans), default=0)
    except (OSError, ValueError, struct.error, KeyError, AttributeError, TypeError) as exc:
        raise _broken(path, exc) from exc
    if size != expected:
        raise DamagedModelError(
            _("{path} is not whole: it has {size} bytes, its header promises {expected}.").format(
                path=path, size=size, expected=expected
            )
        )
    yield from ((dtype, end - start) for dtype, start, end in spans)


def _offsets(value: Sequence[object]) -> tuple[int, int]:
    """Start and end of a tensor's bytes. Raises ValueError or TypeError for anything else."""
    start, end = (int(str(number)) for number in value)
    return start, end


def _broken(path: Path, reason: object) -> DamagedModelError:
    return DamagedModelError(_("{path} cannot be read: {reason}").format(path=path, reason=brief(reason)))

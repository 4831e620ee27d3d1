"""Weight files of a checkpoint, read by their headers only.

Only safetensors count: opening a pickle runs whatever code is inside it.
"""

import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from tanuki_cli.errors import DamagedModelError, EngineError, brief
from tanuki_cli.files import open_regular, os_reason
from tanuki_cli.i18n import _

Dtype = Literal["float32", "float16", "bfloat16"]
BYTES_PER_VALUE: Final[Mapping[Dtype, int]] = {"float32": 4, "float16": 2, "bfloat16": 2}

_DTYPES: Final[Mapping[str, Dtype]] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX_SUFFIX: Final = ".safetensors.index.json"
_LENGTH: Final = struct.Struct("<Q")
MAX_JSON_BYTES: Final = 16 << 20
"""Tanuki's own headers and configurations have some ten thousand bytes."""
_LAYER: Final = re.compile(r"model\.layers\.(\d{1,6})\.")
_SIZES: Final[Mapping[str, int]] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of a value, by safetensors' name of its type."""


class WeightFiles(Struct, frozen=True, kw_only=True):
    """The weights of one checkpoint.

    ``entry`` is the name of the one file, or of the index over several. ``bytes`` counts the data of
    all tensors. ``dtype`` is what most of the floating-point data is in. ``layers`` is one more than the
    highest layer with weights.
    """

    entry: str
    bytes: int
    dtype: Dtype
    layers: int


class _Tensor(Struct, frozen=True):
    name: str
    dtype: str
    start: int
    end: int


def find_weights(directory: Path) -> WeightFiles:
    """Find the safetensors files of ``directory`` and check that they are all there and whole.

    Raises EngineError, with a sentence of its own for a checkpoint that has only pickles.
    """
    entry = _find_entry(directory)
    names = _shards(entry) if entry.name.endswith(_INDEX_SUFFIX) else [entry.name]
    total = layers = 0
    floats: Counter[Dtype] = Counter()
    for name in names:
        for tensor in _tensors(directory / name):
            size = tensor.end - tensor.start
            total += size
            if tensor.dtype in _DTYPES:
                floats[_DTYPES[tensor.dtype]] += size
            if match := _LAYER.match(tensor.name):
                layers = max(layers, int(match[1]) + 1)
    if not floats:
        raise DamagedModelError(_("{path} holds no weights that this program can read.").format(path=entry))
    return WeightFiles(entry=entry.name, bytes=total, dtype=floats.most_common(1)[0][0], layers=layers)


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
        names = set(read_json(index)["weight_map"].values())
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


def read_json(path: Path) -> Any:
    """What the JSON file ``path`` holds. Raises OSError, and ValueError for what is none, or too large or
    too deep to be a part of a model."""
    with open_regular(path) as file:
        return _parse(file.read(MAX_JSON_BYTES + 1))


def _parse(content: bytes) -> Any:
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(_("it is too large"))
    try:
        return json.loads(content)
    except RecursionError as exc:
        raise ValueError(_("it is nested too deeply")) from exc


def _tensors(path: Path) -> Iterator[_Tensor]:
    """Every tensor in ``path``; the file must be as long as they say."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            if length > min(MAX_JSON_BYTES, size):
                raise ValueError(_("not a safetensors file"))
            header = _parse(file.read(length))
        header.pop("__metadata__", None)
        tensors = [_tensor(name, entry) for name, entry in header.items()]
        expected = _LENGTH.size + length + max((tensor.end for tensor in tensors), default=0)
    except (OSError, ValueError, struct.error, KeyError, AttributeError, TypeError) as exc:
        raise _broken(path, os_reason(exc) if isinstance(exc, OSError) else exc) from exc
    if size != expected:
        raise DamagedModelError(
            _("{path} is not whole: it has {size} bytes, its header promises {expected}.").format(
                path=path, size=size, expected=expected
            )
        )
    yield from tensors


def _tensor(name: str, entry: Mapping[str, Any]) -> _Tensor:
    """One entry of a header. Raises ValueError, KeyError or TypeError for anything else."""
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = (*shape, start, end)
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or dtype not in _SIZES:
        raise ValueError(_("tensor {name} has an impossible shape or type").format(name=brief(name)))
    if math.prod(shape) * _SIZES[dtype] != end - start:
        raise ValueError(_("tensor {name} has an impossible shape or type").format(name=brief(name)))
    return _Tensor(name, dtype, start, end)


def _broken(path: Path, reason: object) -> DamagedModelError:
    return DamagedModelError(_("{path} cannot be read: {reason}").format(path=path, reason=brief(reason)))

"""What a GGUF file says about itself, read without running any native code on it.

llama.cpp stops the whole process on some damaged files, and it runs models that it cannot run right
without a word. So the header is read here first: every length is checked against the file and against
what a model of Tanuki's kind could need. Whether what it says is allowed: see admission.py.
"""

import errno
import mmap
import os
import stat
import struct
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.catalog import part_names
from tanuki_cli.errors import DamagedModelError, EngineError, brief
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

GgufValue = bool | int | float | str | list[str] | list[float]
"""A metadata value; whole numbers in arrays count as floats for the type checker."""

UINT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9
DEFAULT_ALIGNMENT: Final = 32

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_NUMBERS: Final[Mapping[int, str]] = {
    0: "B", 1: "b", UINT16: "H", 3: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?", 10: "Q",
    11: "q", 12: "d",
}  # fmt: skip
_MAX_DIMENSIONS: Final = 4
# A damaged count must not make a list of the whole file. Tanuki-8B has 300 tensors and 65,024 pieces.
_MAX_KEYS: Final = 4096
_MAX_TENSORS: Final = 1 << 14
_MAX_ELEMENTS: Final = 1 << 21
_MAX_NAME_BYTES: Final = 256
_MAX_STRING_BYTES: Final = 1 << 20
_MAX_HEADER_BYTES: Final = 256 << 20


class GgufTensor(Struct, frozen=True, kw_only=True):
    """A tensor's place: ``shape`` with the fastest dimension first, ``kind`` as ggml numbers its types,
    ``offset`` from the beginning of its file's weights, which are ``available`` bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    available: int


class GgufFile(Struct, frozen=True, kw_only=True):
    """The header of a GGUF model: that of its first part, and the tensors of all.

    ``kinds`` numbers the type of each metadata value as GGUF does. ``parts`` are all its files, in order;
    ``tensors`` holds the tensors of each.
    """

    path: Path
    metadata: Mapping[str, GgufValue]
    kinds: Mapping[str, int]
    alignment: int
    parts: tuple[Path, ...]
    tensors: tuple[tuple[GgufTensor, ...], ...]


class _Broken(Exception):
    """The bytes do not make sense; the text says what is wrong."""


def read_gguf(path: Path) -> GgufFile:
    """Read the header of ``path``, and of the other parts if the model was split into several files.

    Raises EngineError for a file that is missing, not a GGUF, damaged or truncated.
    """
    first = _read(path)
    count = first.metadata.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return first
    names = part_paths(path)
    if len(names) != count:
        raise EngineError(
            _("{path} is one part of a model that was split into {count} files.").format(
                path=path, count=count
            ),
            hint=_("Name its parts name-00001-of-{count:05}.gguf and so on, side by side.").format(
                count=count
            ),
        )
    parts = [first if part == path else _read(part) for part in names]
    for index, (name, part) in enumerate(zip(names, parts, strict=True)):
        if (part.kinds.get("split.no"), part.metadata.get("split.no")) != (UINT16, index):
            raise damaged(name, _("it is another part than its name says"))
    if any(part.alignment != first.alignment for part in parts):
        raise damaged(path, _("its alignment is impossible"))
    return replace(parts[0], parts=tuple(names), tensors=tuple(part.tensors[0] for part in parts))


def part_paths(path: Path) -> list[Path]:
    """All parts of the model that ``path`` is a part of, by its name; ``path`` alone if it was not split."""
    return [path.with_name(name) for name in part_names(path.name)]


def _read(path: Path) -> GgufFile:
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe could wait for ever
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise EngineError(
                    _("{path} is not a GGUF model file.").format(path=path), hint=_another_file_hint()
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data).file(path)
    except OSError as exc:
        raise EngineError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc)),
            # The file is mapped, not read: only a limit of the shell can be too small for that.
            hint="ulimit -v unlimited" if exc.errno == errno.ENOMEM else _another_file_hint(),
        ) from exc
    except _Broken as exc:
        raise damaged(path, str(exc)) from exc


def damaged(path: Path, reason: str) -> DamagedModelError:
    """The error for a model file whose contents make no sense."""
    return DamagedModelError(
        _("{path} is damaged or incomplete: {reason}.").format(path=path, reason=brief(reason))
    )


def _another_file_hint() -> str:
    return _("See which models are there: tanuki models")


class _Reader:
    """A cursor over the header; every read is checked against the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._file_size = len(data)
        self._size = min(self._file_size, _MAX_HEADER_BYTES)
        self._position = len(_MAGIC)

    def file(self, path: Path) -> GgufFile:
        version = self._number("I")
        if version not in _VERSIONS:
            raise EngineError(
                _("{path} is a GGUF file of version {version}, which is not supported.").format(
                    path=path, version=version
                ),
                hint=_another_file_hint(),
            )
        tensor_count, metadata_count = self._count("Q", _MAX_TENSORS), self._count("Q", _MAX_KEYS)
        metadata: dict[str, GgufValue] = {}
        kinds: dict[str, int] = {}
        for _index in range(metadata_count):
            key = self._string(_MAX_NAME_BYTES)
            if not key or key in metadata:
                raise _Broken(_("{key} is there twice").format(key=brief(key)))
            kinds[key] = self._number("I")
            metadata[key] = self._value(kinds[key])
        infos = [self._tensor_info() for _index in range(tensor_count)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise _Broken(_("its alignment is impossible"))
        start = -(-self._position // alignment) * alignment
        available = self._file_size - start
        tensors = tuple(replace(tensor, available=available) for tensor in infos)
        return GgufFile(
            path=path, metadata=metadata, kinds=kinds, alignment=alignment, parts=(path,), tensors=(tensors,)
        )

    def _tensor_info(self) -> GgufTensor:
        name = self._string(_MAX_NAME_BYTES)
        dimensions = self._number("I")
        if not 0 < dimensions <= _MAX_DIMENSIONS:
            raise _Broken(
                _("tensor {name} has {count} dimensions").format(name=brief(name), count=dimensions)
            )
        shape = tuple(self._number("Q") for _index in range(dimensions))
        return GgufTensor(
            name=name, shape=shape, kind=self._number("I"), offset=self._number("Q"), available=0
        )

    def _value(self, kind: int) -> GgufValue:
        if kind == STRING:
            return self._string(_MAX_STRING_BYTES)
        if kind == ARRAY:
            return self._array(self._number("I"), self._count("Q", _MAX_ELEMENTS))
        if kind not in _NUMBERS:
            raise _Broken(_("it holds a value of the unknown type {kind}").format(kind=kind))
        return self._number(_NUMBERS[kind])

    def _array(self, kind: int, count: int) -> list[str] | list[float]:
        if kind == STRING:
            return self._strings(count, _MAX_STRING_BYTES)
        if kind not in _NUMBERS:
            raise _Broken(_("it holds a value of the unknown type {kind}").format(kind=kind))
        code = "B" if kind == BOOL else _NUMBERS[kind]
        numbers = array(code)
        end = self._position + count * numbers.itemsize
        self._check(end)
        numbers.frombytes(self._data[self._position : end])
        self._position = end
        return cast("list[float]", numbers.tolist())

    def _strings(self, count: int, longest: int) -> list[str]:
        """The hot loop: a vocabulary has 65,000 strings."""
        data, position, limit = self._data, self._position, self._size
        length_at: Callable[[mmap.mmap, int], tuple[int]] = struct.Struct("<Q").unpack_from
        strings = []
        for _index in range(count):
            start = position + 8
            if start > limit:
                raise _Broken(_("the file ends in its header"))
            length = length_at(data, position)[0]
            position = start + length
            if position > limit:
                raise _Broken(_("the file ends in its header"))
            if length > longest:
                raise _Broken(_("a text in it is {count} bytes long").format(count=length))
            strings.append(data[start:position].decode("utf-8", errors="backslashreplace"))
        self._position = position
        return strings

    def _string(self, longest: int) -> str:
        return self._strings(1, longest)[0]

    def _count(self, code: str, most: int) -> int:
        count = self._number(code)
        if count > most:
            raise _Broken(_("it would hold {count} entries").format(count=count))
        return count

    def _number(self, code: str) -> int:
        unpacker = struct.Struct("<" + code)
        end = self._position + unpacker.size
        self._check(end)
        value: int = unpacker.unpack_from(self._data, self._position)[0]
        self._position = end
        return value

    def _check(self, end: int) -> None:
        if end > self._size:
            raise _Broken(_("the file ends in its header"))

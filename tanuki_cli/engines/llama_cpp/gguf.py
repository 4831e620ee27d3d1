"""What a GGUF file says about itself, read without running any native code on it.

llama.cpp stops the whole process on some damaged files, and it runs models that it cannot run right
without a word. So the header is read here first: every length is checked against the file, and what
this program cannot run is refused with the reason.
"""

import errno
import mmap
import struct
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from tanuki_cli.errors import EngineError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

GgufValue = bool | int | float | str | list[str] | list[float]
"""A metadata value; whole numbers in arrays count as floats for the type checker."""

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS: Final[Mapping[int, str]] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_MAX_DIMENSIONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A tensor's place: ``shape`` with the fastest dimension first, ``nbytes`` padding included."""

    name: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """The header of a GGUF file."""

    path: Path
    metadata: Mapping[str, GgufValue]
    tensors: tuple[GgufTensor, ...]


class _Broken(Exception):
    """The bytes do not make sense; the text says what is wrong."""


def read_gguf(path: Path) -> GgufFile:
    """Read the header of ``path``.

    Raises EngineError for a file that is missing, not a GGUF, damaged or truncated.
    """
    try:
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


def damaged(path: Path, reason: str) -> EngineError:
    """The error for a model file whose contents make no sense."""
    return EngineError(
        _("{path} is damaged or incomplete: {reason}.").format(path=path, reason=reason),
        hint=_("Get it again: tanuki pull --verify"),
    )


def _another_file_hint() -> str:
    return _("See which models are there: tanuki models")


class _Reader:
    """A cursor over the header; every read is checked against the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
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
        tensor_count, metadata_count = self._number("Q"), self._number("Q")
        metadata: dict[str, GgufValue] = {}
        for _index in range(metadata_count):
            key = self._string()
            if key in metadata:
                raise _Broken(_("{key} is there twice").format(key=key))
            metadata[key] = self._value(self._number("I"))
        infos = [self._tensor_info() for _index in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise _Broken(_("its alignment is impossible"))
        start = -(-self._position // alignment) * alignment
        return GgufFile(path=path, metadata=metadata, tensors=self._sizes(infos, start))

    def _tensor_info(self) -> tuple[str, tuple[int, ...], int]:
        name = self._string()
        dimensions = self._number("I")
        if not 0 < dimensions <= _MAX_DIMENSIONS:
            raise _Broken(_("tensor {name} has {count} dimensions").format(name=name, count=dimensions))
        shape = tuple(self._number("Q") for _index in range(dimensions))
        self._number("I")
        return name, shape, self._number("Q")

    def _sizes(self, infos: list[tuple[str, tuple[int, ...], int]], start: int) -> tuple[GgufTensor, ...]:
        """A tensor reaches to the next one, the last to the end of the file."""
        if not infos:
            raise _Broken(_("it holds no weights"))
        infos.sort(key=lambda info: info[2])
        ends = [offset for _name, _shape, offset in infos[1:]] + [self._size - start]
        tensors = []
        for (name, shape, offset), end in zip(infos, ends, strict=True):
            if start + max(offset, end) > self._size or end <= offset:
                raise _Broken(_("the weights end too early"))
            tensors.append(GgufTensor(name=name, shape=shape, nbytes=end - offset))
        return tuple(tensors)

    def _value(self, kind: int) -> GgufValue:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(self._number("I"), self._number("Q"))
        if kind not in _NUMBERS:
            raise _Broken(_("it holds a value of the unknown type {kind}").format(kind=kind))
        return self._number(_NUMBERS[kind])

    def _array(self, kind: int, count: int) -> list[str] | list[float]:
        if kind == _STRING:
            return self._strings(count)
        if kind not in _NUMBERS:
            raise _Broken(_("it holds a value of the unknown type {kind}").format(kind=kind))
        code = "B" if kind == _BOOL else _NUMBERS[kind]
        numbers = array(code)
        end = self._position + count * numbers.itemsize
        self._check(end)
        numbers.frombytes(self._data[self._position : end])
        self._position = end
        return cast("list[float]", numbers.tolist())

    def _strings(self, count: int) -> list[str]:
        """The hot loop: a vocabulary has 65,000 strings."""
        data, position, limit = self._data, self._position, self._size
        length_at: Callable[[mmap.mmap, int], tuple[int]] = struct.Struct("<Q").unpack_from
        strings = []
        for _index in range(count):
            if position + 8 > limit:
                raise _Broken(_("the file ends in its header"))
            start = position + 8
            position = start + length_at(data, position)[0]
            if position > limit:
                raise _Broken(_("the file ends in its header"))
            strings.append(data[start:position].decode("utf-8", errors="backslashreplace"))
        self._position = position
        return strings

    def _string(self) -> str:
        return self._strings(1)[0]

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

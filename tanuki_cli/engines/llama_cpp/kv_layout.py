"""What a sequence state of llama.cpp looks like, byte by byte but for the numbers in it.

llama.cpp ends the process on a state that is not what it expects, in size or in what its head says. All
of that follows from the model and the context, so a file is held against it: when it was written, which
would show that llama.cpp's format is another than this, and before it is read.
"""

import os
import struct
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.admission import KINDS
from tanuki_cli.files import open_regular

MAGIC: Final = b"qsgg"
HEAD: Final = struct.Struct("<4sII")
"""Magic, version, number of ids; then the ids."""
_VERSION: Final = 3
_STREAMS: Final = struct.pack("<I", 1)
_COUNT: Final = struct.Struct("<I")
_CELL: Final = struct.Struct("<iIi")
"""A position, and the sequences that have it: one, and its number."""
_NAMELESS_CELL: Final = struct.Struct("<iI")
"""The same where a state does not say whose it is."""
_BODY: Final = struct.Struct("<II")
_ROWS: Final = struct.Struct("<iQ")
_COLUMNS: Final = struct.Struct("<iII")


class StateLayout(Struct, frozen=True, kw_only=True):
    """The states of one context: keys and values of ``n_layer`` layers, ``width`` numbers of the ggml type
    ``kind`` a token, the values ``transposed`` where there is no flash attention. ``has_streams`` where the
    caches of sequences are kept apart."""

    n_layer: int
    width: int
    kind: int
    transposed: bool
    has_streams: bool = True

    def fits(self, path: Path, *, max_ids: int) -> bool:
        """Whether ``path`` is a state of this layout, whole, and of at most ``max_ids`` ids."""
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                magic, version, count = HEAD.unpack(file.read(HEAD.size))
                if (magic, version) != (MAGIC, _VERSION) or not 0 < count <= max_ids:
                    return False
                if size != self._size(count):
                    return False
                file.seek(4 * count, os.SEEK_CUR)
                return self._has_cells(file, count) and self._has_body(file, count)
        except (OSError, struct.error):
            return False

    @property
    def _row(self) -> int:
        return self.width // KINDS[self.kind].block * KINDS[self.kind].size

    @property
    def _cell(self) -> struct.Struct:
        return _CELL if self.has_streams else _NAMELESS_CELL

    @property
    def _streams(self) -> bytes:
        """What stands before the cells: of how many streams they are, where there are any."""
        return _STREAMS if self.has_streams else b""

    @property
    def _end(self) -> bytes:
        """What stands after the numbers: a zero where there are no streams, of a part that no state has."""
        return b"" if self.has_streams else _COUNT.pack(0)

    def _size(self, count: int) -> int:
        """Bytes of a state of ``count`` ids."""
        cells = len(self._streams) + _COUNT.size + self._cell.size * count
        heads = self.n_layer * (_ROWS.size + (_COLUMNS.size if self.transposed else _ROWS.size))
        numbers = 2 * self.n_layer * count * self._row
        return HEAD.size + 4 * count + cells + _BODY.size + heads + numbers + len(self._end)

    def _has_cells(self, file: BufferedReader, count: int) -> bool:
        """Every position from 0 on once, each of one sequence, in one stream."""
        if file.read(len(self._streams)) != self._streams or _read(file, _COUNT) != (count,):
            return False
        cells = list(self._cell.iter_unpack(file.read(self._cell.size * count)))
        owners = int(self.has_streams)
        return {cell[0] for cell in cells} == set(range(count)) and all(cell[1] == owners for cell in cells)

    def _has_body(self, file: BufferedReader, count: int) -> bool:
        if _read(file, _BODY) != (int(self.transposed), self.n_layer):
            return False
        for head, expected in self._heads():
            if _read(file, head) != expected:
                return False
            file.seek(count * self._row, os.SEEK_CUR)
        return file.read() == self._end

    def _heads(self) -> Iterator[tuple[struct.Struct, tuple[int, ...]]]:
        """What stands before the keys and the values of each layer."""
        rows = (self.kind, self._row)
        for _layer in range(self.n_layer):
            yield _ROWS, rows
        for _layer in range(self.n_layer):
            if self.transposed:
                yield _COLUMNS, (self.kind, KINDS[self.kind].size, self.width)
            else:
                yield _ROWS, rows


def _read(file: BufferedReader, form: struct.Struct) -> tuple[object, ...]:
    return form.unpack(file.read(form.size))

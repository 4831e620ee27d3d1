"""Reading a damaged history file page by page, without SQLite.

SQLite gives up on a file whose first page, schema or inner pages are gone, though the rows are all
there: every leaf page of a table says by itself where its rows begin. So all leaf pages are read, of
the file and of the write-ahead log beside it, and the rows with the shape of ours are kept. The
file is only read. Format: https://www.sqlite.org/fileformat.html
"""

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.files import read_bounded
from tanuki_cli.history.log import Frame, frames, log_path

_MAGIC: Final = b"SQLite format 3\x00"
_WAL_HEADER: Final = 32
_PAGE_SIZES: Final = tuple(1 << power for power in range(9, 17))
_DEFAULT_PAGE_SIZE: Final = 4096
_FIRST_PAGE_HEADER: Final = 100
_TABLE_LEAF: Final = 0x0D
_MAX_BYTES: Final = 1 << 32

Cell = int | float | str | bytes | None


class Row(Struct, frozen=True):
    """A row of some table: its rowid and its columns as they are stored."""

    rowid: int
    values: tuple[Cell, ...]


class Salvage(Struct, frozen=True):
    """The rows that could be read, and how many could not."""

    rows: tuple[Row, ...]
    unreadable: int


class _Unreadable(Exception):
    """The bytes are not what the format says."""


class Pages:
    """The pages of a file, in pages of ``size`` bytes, and of the log that goes with it.

    ``reserved`` bytes at the end of each are not used.
    """

    def __init__(self, data: bytes, log: bytes, *, size: int, reserved: int = 0) -> None:
        self._data = data
        self.size = size
        self.usable = size - reserved
        self._newer: dict[int, list[Frame]] = {}
        for frame in frames(log, size):
            self._newer.setdefault(frame.number, []).append(frame)
        self.numbers = sorted({*range(1, len(data) // size + 1), *self._newer})
        self.most_bytes = len(data) + len(log)

    def page(self, number: int) -> bytes:
        """The newest state of the page ``number``, counted from 1. Raises _Unreadable if there is none."""
        return self.states(number)[-1]

    def states(self, number: int) -> list[bytes]:
        """The state of a page that SQLite reads, and what may be newer, the newest last."""
        in_log = self._newer.get(number, [])
        last = max((index for index, frame in enumerate(in_log) if frame.counts), default=None)
        found = [frame.page for frame in in_log[last:]]
        if last is None and 1 <= number <= len(self._data) // self.size:
            found.insert(0, self._data[(number - 1) * self.size : number * self.size])
        if not found:
            raise _Unreadable
        return found


def salvage(path: Path, *, widths: Collection[int]) -> Salvage:
    """Read the rows of the file ``path`` that have a number of columns in ``widths``.

    Its header may be wrong: where pages of the size that it names do not all make sense, every other size
    is tried, and what gives most rows is kept. Raises OSError.
    """
    data = read_bounded(path, limit=_MAX_BYTES)
    wal = log_path(path)
    log = read_bounded(wal, limit=_MAX_BYTES) if wal.exists() else b""
    best: Salvage | None = None
    likely = _page_size(data, log)
    for size in (likely, *(size for size in reversed(_PAGE_SIZES) if size != likely)):
        for reserved in sorted({0, data[20] if data.startswith(_MAGIC) else 0}):
            if reserved > size // 2:
                continue
            found = _salvage(Pages(data, log, size=size, reserved=reserved), widths=widths)
            if best is None or len(found.rows) > len(best.rows):
                best = found
        if best is not None and best.rows and not best.unreadable and _is_consistent(data, size):
            break
    assert best is not None
    return best


def _salvage(pages: Pages, *, widths: Collection[int]) -> Salvage:
    """The rows on every table leaf page, in the order of the pages, older states of a page first."""
    rows: list[Row] = []
    unreadable = 0
    for number in pages.numbers:
        for page in pages.states(number):
            found, missing = _rows_of(pages, page, first=number == 1)
            unreadable += missing
            rows += [row for row in found if len(row.values) in widths]
    return Salvage(tuple(rows), unreadable)


def _rows_of(pages: Pages, page: bytes, *, first: bool) -> tuple[list[Row], int]:
    """The rows that begin on ``page``, and how many of it cannot be read."""
    try:
        offsets = list(_cell_offsets(page, first=first))
    except _Unreadable:
        return [], 1
    rows: list[Row] = []
    for offset in offsets:
        with suppress(_Unreadable):
            rows.append(_read_cell(pages, page, offset))
    return rows, len(offsets) - len(rows)


def _page_size(data: bytes, log: bytes) -> int:
    """As the header of the file says, else that of the log, else SQLite's default."""
    sizes = []
    if data.startswith(_MAGIC):
        size = struct.unpack_from(">H", data, 16)[0]
        sizes.append(65536 if size == 1 else size)
    if len(log) >= _WAL_HEADER:
        sizes.append(struct.unpack_from(">I", log, 8)[0])
    return next((size for size in sizes if size in _PAGE_SIZES), _DEFAULT_PAGE_SIZE)


def _is_consistent(data: bytes, size: int) -> bool:
    """Whether the header counts as many pages of ``size`` as there are."""
    return data.startswith(_MAGIC) and struct.unpack_from(">I", data, 28)[0] * size == len(data)


def _cell_offsets(page: bytes, *, first: bool) -> Iterator[int]:
    """Where the rows begin on a page; nothing on a page that is no table leaf."""
    header = _FIRST_PAGE_HEADER if first else 0
    if page[header] != _TABLE_LEAF:
        return
    count = struct.unpack_from(">H", page, header + 3)[0]
    array = header + 8
    if array + 2 * count > len(page):
        raise _Unreadable
    yield from struct.unpack_from(f">{count}H", page, array)


def _read_cell(pages: Pages, page: bytes, offset: int) -> Row:
    length, offset = _varint(page, offset)
    rowid, offset = _varint(page, offset)
    payload = _payload(pages, page, offset, length)
    return Row(rowid if rowid < 1 << 63 else rowid - (1 << 64), _record(payload))


def _payload(pages: Pages, page: bytes, offset: int, length: int) -> bytes:
    """A record that may go on in a chain of overflow pages."""
    usable = pages.usable
    if length > pages.most_bytes:
        raise _Unreadable
    local = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        if local > usable - 35:
            local = least
    if offset + local > usable:
        raise _Unreadable
    parts, missing = [page[offset : offset + local]], length - local
    link = page[offset + local : offset + local + 4]
    while missing > 0:
        if len(link) < 4:
            raise _Unreadable
        overflow = pages.page(struct.unpack(">I", link)[0])
        parts.append(overflow[4 : min(4 + missing, usable)])
        missing -= len(parts[-1])
        link = overflow[:4]
    return b"".join(parts)


def _record(payload: bytes) -> tuple[Cell, ...]:
    header_length, position = _varint(payload, 0)
    types = []
    while position < header_length:
        serial_type, position = _varint(payload, position)
        types.append(serial_type)
    if position != header_length:
        raise _Unreadable
    values = []
    for serial_type in types:
        value, position = _value(payload, position, serial_type)
        values.append(value)
    if position != len(payload):
        raise _Unreadable
    return tuple(values)


def _value(payload: bytes, position: int, serial_type: int) -> tuple[Cell, int]:
    if serial_type in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(serial_type)], position
    if serial_type in (10, 11):
        raise _Unreadable
    length = (0, 1, 2, 3, 4, 6, 8, 8)[serial_type] if serial_type < 8 else (serial_type - 12) // 2
    raw = payload[position : position + length]
    if len(raw) < length:
        raise _Unreadable
    position += length
    if serial_type < 7:
        return int.from_bytes(raw, "big", signed=True), position
    if serial_type == 7:
        return float(struct.unpack(">d", raw)[0]), position
    if serial_type % 2 == 0:
        return raw, position
    return raw.decode("utf-8", "replace"), position


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """An unsigned integer of one to nine bytes, and the offset after it."""
    value = 0
    for index in range(9):
        if offset + index >= len(data):
            raise _Unreadable
        byte = data[offset + index]
        if index == 8:
            return value << 8 | byte, offset + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    raise AssertionError("unreachable")

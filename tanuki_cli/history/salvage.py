"""Reading a damaged history file page by page, without SQLite.

SQLite gives up on a file whose first page, schema or inner pages are gone, though the rows are all
there: every leaf page of a table says by itself where its rows begin. So all leaf pages are read, of
the file and of the write-ahead log beside it, and the rows with the shape of ours are kept. The
file is only read. Format: https://www.sqlite.org/fileformat.html
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"SQLite format 3\x00"
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_PAGE_SIZES: Final = tuple(1 << power for power in range(9, 17))
_DEFAULT_PAGE_SIZE: Final = 4096
_FIRST_PAGE_HEADER: Final = 100
_TABLE_LEAF: Final = 0x0D

Cell = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of some table: its rowid and its columns as they are stored."""

    rowid: int
    values: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Salvage:
    """The rows that could be read, and how many could not."""

    rows: tuple[Row, ...]
    unreadable: int


class _Unreadable(Exception):
    """The bytes are not what the format says."""


class Pages:
    """The pages of a file as the last complete transaction left them, in pages of ``size`` bytes.

    ``reserved`` bytes at the end of each are not used.
    """

    def __init__(self, data: bytes, log: bytes, *, size: int, reserved: int = 0) -> None:
        self._data = data
        self.size = size
        self.usable = size - reserved
        self._newer: dict[int, bytes] = _committed_frames(log, size)
        self.count = max(len(data) // size, max(self._newer, default=0))

    def page(self, number: int) -> bytes:
        """The page ``number``, counted from 1. Raises _Unreadable if the file ends before it."""
        page = self._newer.get(number) or self._data[(number - 1) * self.size : number * self.size]
        if number < 1 or len(page) < self.size:
            raise _Unreadable
        return page


def salvage(path: Path, *, widths: Collection[int]) -> Salvage:
    """Read the rows of the file ``path`` that have a number of columns in ``widths``.

    Its header may be wrong: where pages of the size that it names do not all make sense, every other size
    is tried, and what gives most rows is kept. Raises OSError.
    """
    data = path.read_bytes()
    wal = path.with_name(path.name + "-wal")
    log = wal.read_bytes() if wal.exists() else b""
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
    """The rows on every table leaf page, in the order of the pages."""
    rows: list[Row] = []
    unreadable = 0
    for number in range(1, pages.count + 1):
        try:
            cells = list(_cell_offsets(pages, number))
        except _Unreadable:
            unreadable += 1
            continue
        for offset in cells:
            try:
                row = _read_cell(pages, number, offset)
            except _Unreadable:
                unreadable += 1
                continue
            if len(row.values) in widths:
                rows.append(row)
    return Salvage(tuple(rows), unreadable)


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


def _committed_frames(log: bytes, size: int) -> dict[int, bytes]:
    """The newest content of each page in the log, up to its last commit."""
    committed: dict[int, bytes] = {}
    if len(log) < _WAL_HEADER or struct.unpack_from(">I", log, 0)[0] not in _WAL_MAGIC:
        return committed
    salts = log[16:24]
    pending: dict[int, bytes] = {}
    for start in range(_WAL_HEADER, len(log) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
        number, pages_after_commit = struct.unpack_from(">II", log, start)
        if log[start + 8 : start + 16] != salts:
            break  # left over from before the last checkpoint
        pending[number] = log[start + _FRAME_HEADER : start + _FRAME_HEADER + size]
        if pages_after_commit:
            committed.update(pending)
            pending.clear()
    return committed


def _cell_offsets(pages: Pages, number: int) -> Iterator[int]:
    """Where the rows begin on a page; nothing on a page that is no table leaf."""
    page = pages.page(number)
    header = _FIRST_PAGE_HEADER if number == 1 else 0
    if page[header] != _TABLE_LEAF:
        return
    count = struct.unpack_from(">H", page, header + 3)[0]
    array = header + 8
    if array + 2 * count > pages.size:
        raise _Unreadable
    yield from struct.unpack_from(f">{count}H", page, array)


def _read_cell(pages: Pages, number: int, offset: int) -> Row:
    page = pages.page(number)
    length, offset = _varint(page, offset)
    rowid, offset = _varint(page, offset)
    payload = _payload(pages, page, offset, length)
    return Row(rowid if rowid < 1 << 63 else rowid - (1 << 64), _record(payload))


def _payload(pages: Pages, page: bytes, offset: int, length: int) -> bytes:
    """A record that may go on in a chain of overflow pages."""
    usable = pages.usable
    if length > pages.count * usable:
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

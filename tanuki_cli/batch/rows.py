"""What a file asks: rows out of lines, JSON Lines, CSV or TSV, one at a time.

A row is known again by its id, or where it has none by a digest of its fields.
"""

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import PurePath
from typing import Any, BinaryIO, Final, Literal

from msgspec import Struct

from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _
from tanuki_cli.text.lines import SURROGATES, UTF_8, Line, find_encoding, text_lines
from tanuki_cli.text.strict_json import strict_loads

RowForm = Literal["lines", "jsonl", "csv", "tsv"]
FORMS: Final[tuple[RowForm, ...]] = ("lines", "jsonl", "csv", "tsv")
TEXT_FIELD: Final = "text"
"""The only field of a row that is a line of text."""
_SUFFIXES: Final[Mapping[str, RowForm]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
_DIGEST_DIGITS: Final = 24

Fields = Mapping[str, Any]


class Row(Struct, frozen=True, kw_only=True):
    """One row. ``number`` is the line that it begins on, ``fields`` are what stands in it by name.

    ``key`` tells it from all others, ``digest`` from what it was before a change. ``problem`` is why it
    cannot be asked, as part of a sentence; empty where it can.
    """

    number: int
    fields: Fields
    key: str
    digest: str
    problem: str = ""

    @property
    def is_openai(self) -> bool:
        """Whether it is a request in the form of OpenAI's Batch API."""
        return "body" in self.fields and own_id({"custom_id": self.fields.get("custom_id")}) is not None


class Source(Struct, frozen=True, kw_only=True):
    """A file of rows, to be read as often as need be. ``name`` is what the user calls it."""

    file: BinaryIO
    name: str
    form: RowForm
    encoding: str

    def rows(self) -> Iterator[Row]:
        """The rows from the first; one reader at a time.

        Raises InputError for a table that cannot be read on from some place, and for an id that two rows
        have.
        """
        self.file.seek(0)
        with closing(text_lines(self.file, name=self.name, encoding=self.encoding)) as lines:
            if self.form in ("csv", "tsv"):
                parts = _table(lines, self.name, delimiter="\t" if self.form == "tsv" else ",")
            else:
                parts = _objects(lines) if self.form == "jsonl" else _texts(lines)
            yield from _told_apart(parts, self.name)

    @property
    def table_encoding(self) -> str:
        """That of a table made of it: with the mark that tells spreadsheets of UTF-8, if this one has it or
        is in an encoding of theirs."""
        self.file.seek(0)
        marked = self.file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 or self.encoding != UTF_8
        return UTF_8 if marked else "utf-8"

    def columns(self) -> list[str]:
        """The fields of the first row that can be read; of a table its header."""
        first = next((row for row in self.rows() if not row.problem), None)
        return list(first.fields) if first is not None else []


def open_source(
    file: BinaryIO, *, name: str, form: RowForm | None = None, encoding: str | None = None
) -> Source:
    """``file`` as rows; ``form`` and ``encoding`` are found out where they are not given.

    The form is that of the name's ending; else JSON Lines where the first line is a JSON object, and lines.
    """
    found = find_encoding(file, name=name, encoding=encoding)
    form = form or _SUFFIXES.get(PurePath(name).suffix.lower())
    if form is None:
        with closing(text_lines(file, name=name, encoding=found)) as lines:
            first = next((line for line in lines if line.text.strip()), None)
        form = "jsonl" if first is not None and isinstance(_json(first.text), dict) else "lines"
    return Source(file=file, name=name, form=form, encoding=found)


_Part = tuple[int, Fields, str]
"""Number, fields and problem of a row."""


def _texts(lines: Iterator[Line]) -> Iterator[_Part]:
    for line in lines:
        if line.text.strip():
            yield line.number, {TEXT_FIELD: line.text}, line.problem


def _objects(lines: Iterator[Line]) -> Iterator[_Part]:
    for line in lines:
        if not line.text.strip():
            continue
        value = None if line.problem else _json(line.text)
        if isinstance(value, dict):
            yield line.number, value, ""
        else:
            yield line.number, {TEXT_FIELD: line.text}, line.problem or _("it is not a JSON object")


def _json(text: str) -> object:
    """The JSON value ``text``; None for what is none, and for one that could not be written again."""
    try:
        return strict_loads(text)
    except ValueError:
        return None


def _table(lines: Iterator[Line], name: str, *, delimiter: str) -> Iterator[_Part]:
    # Not strict, it would drop quotation marks in the middle of a cell and end an open one at the last line.
    reader = csv.reader(_joined(lines, name), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 1
    try:
        for cells in reader:
            if cells and header:
                yield number, *_cells(header, cells)
            elif cells:
                header = _header(cells, name)
            number = reader.line_num + 1
    except csv.Error as exc:  # a quotation that never ends swallows everything behind it
        raise InputError(
            _("{name} cannot be read from line {number} on: {reason}.").format(
                name=name, number=number, reason=_csv_reason(exc)
            ),
            hint=_("See whether a quotation mark is left open there."),
        ) from exc


def _csv_reason(error: csv.Error) -> str:
    """What the library says, in the user's language as far as it is known."""
    said = str(error)
    if "field limit" in said:
        return _("a cell is longer than {count} characters").format(count=csv.field_size_limit())
    if "end of data" in said:
        return _("a quotation mark is never closed")
    return _("a closing quotation mark stands within a cell") if "expected after" in said else said


def _joined(lines: Iterator[Line], name: str) -> Iterator[str]:
    """The lines for the reader of tables. One that is no text is a matter of its cells."""
    for line in lines:
        if line.cut:
            raise InputError(
                _("Line {number} of {name} cannot be read: {reason}.").format(
                    number=line.number, name=name, reason=line.problem
                ),
                hint=_("See whether a quotation mark is left open there."),
            )
        yield f"{line.text}\n"


def _header(cells: list[str], name: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = next((cell for cell in header if header.count(cell) > 1), None)
    if twice is not None:
        raise InputError(
            _("{name} has two columns with the name {column!r}.").format(name=name, column=brief(twice)),
            hint=_("Give each column a name of its own in the first line."),
        )
    return header


def _cells(header: list[str], cells: list[str]) -> tuple[Fields, str]:
    fields = dict(zip(header, cells, strict=False))
    if len(cells) != len(header):
        problem = _("it has {count} columns, the first line has {expected}").format(
            count=len(cells), expected=len(header)
        )
        return fields, problem
    return fields, _("it is not text") if any(map(_unreadable, cells)) else ""


def _unreadable(cell: str) -> bool:
    return "\0" in cell or (not cell.isascii() and SURROGATES.search(cell) is not None)


def _told_apart(parts: Iterator[_Part], name: str) -> Iterator[Row]:
    """Rows with their keys. What is kept of each is a hundred bytes, however long it is."""
    seen: dict[bytes, int] = {}
    for number, fields, problem in parts:
        digest = _digest(fields)
        own = own_id(fields)
        place = hashlib.blake2b((own or digest).encode("utf-8", "replace"), digest_size=12).digest()
        if own is not None and place in seen:
            raise InputError(
                _("The rows on lines {first} and {second} of {name} have the same id: {id}").format(
                    first=seen[place], second=number, name=name, id=brief(own)
                ),
                hint=_("Give each row an id of its own, or none."),
            )
        if own is not None:
            seen[place] = number
            key = own
        else:
            count = seen.get(place, 0) + 1
            seen[place] = count
            key = digest if count == 1 else f"{digest}-{count}"
        yield Row(number=number, fields=fields, key=key, digest=digest, problem=problem)


def own_id(fields: Fields) -> str | None:
    """The id that a row brings; None where it brings none."""
    value = fields.get("custom_id", fields.get("id"))
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return str(value)


def _digest(fields: Fields) -> str:
    """Of what stands in a row, whatever the order of its fields."""
    text = json.dumps(fields, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_DIGEST_DIGITS]

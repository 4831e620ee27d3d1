"""Where answers go: into a file that the next run goes on with, or out at once."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol

from tanuki_cli.batch.output import OutputFile
from tanuki_cli.batch.rows import Row, Source
from tanuki_cli.batch.table import AnswerTable, all_columns
from tanuki_cli.files import replacing
from tanuki_cli.jsonl import JsonObject, unwritable


class Sink(Protocol):
    """Takes the record of each row that was answered."""

    @property
    def failed_before(self) -> int:
        """How many rows failed in an earlier run and are not asked again."""

    def missing(self) -> Iterator[Row]:
        """The rows without a record, from the first."""

    def write(self, row: Row, record: JsonObject) -> None:
        """Keep the record of a row; nothing can take it away then. Raises InputError."""

    def finish(self) -> None:
        """The run has ended, whole or not. Raises InputError."""


class FileSink:
    """A Sink that appends to a file of JSON lines; use as a context manager, as :class:`OutputFile`.

    For ``table`` that file lies beside ``path``, and CSV is made of it at the end of each run. With
    ``in_order`` the lines are put into the order of the rows then.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        identity: Mapping[str, object],
        *,
        table: bool,
        in_order: bool,
        force: bool,
        again: bool,
        note: Callable[[str], None],
    ) -> None:
        self._source = source
        self._table = path if table else None
        self._in_order = in_order
        self._again = again
        self._output = OutputFile(lines_path(path) if table else path, identity, force=force, note=note)
        self._stack = ExitStack()

    def __enter__(self) -> "FileSink":
        with ExitStack() as stack:
            stack.enter_context(self._output)
            self._output.check_rows(self._source.rows())
            self._output.begin(again=self._again)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def failed_before(self) -> int:
        """How many rows failed in an earlier run and are not asked again."""
        return sum(done.failed for done in self._output.done.values())

    def missing(self) -> Iterator[Row]:
        """The rows without a line."""
        return (row for row in self._source.rows() if row.key not in self._output.done)

    def write(self, row: Row, record: JsonObject) -> None:
        """Append the line of ``row``."""
        self._output.append(record)

    def finish(self) -> None:
        """Put the lines in order, and make the table, where they are wanted."""
        if self._in_order:
            self._output.put_in_order(self._source.rows())
        if self._table is not None:
            self._write_table(self._table)

    def _write_table(self, path: Path) -> None:
        columns, encoding = all_columns(self._source.rows()), self._source.table_encoding
        try:
            with replacing(path) as file:
                text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
                table = AnswerTable(text, columns)
                for row, record in self._output.records(self._source.rows()):
                    table.add(row, record)
                text.detach()  # flushes
        except OSError as exc:
            raise unwritable(path, exc) from exc


def lines_path(path: Path) -> Path:
    """Where the lines are that the table ``path`` is made of."""
    return path.with_suffix(".jsonl") if path.suffix == ".csv" else path.with_name(f"{path.name}.jsonl")


class StreamSink:
    """A Sink that writes every record to ``write`` at once, as JSON or as CSV."""

    failed_before = 0

    def __init__(
        self,
        source: Source,
        *,
        write_json: Callable[[JsonObject], None],
        write_text: Callable[[str], None],
        table: bool,
    ) -> None:
        self._source = source
        self._write_json = write_json
        self._write_text = write_text
        self._buffer = io.StringIO()
        self._table = AnswerTable(self._buffer, all_columns(source.rows())) if table else None

    def missing(self) -> Iterator[Row]:
        """All rows."""
        return self._source.rows()

    def write(self, row: Row, record: JsonObject) -> None:
        """Write the record of ``row``."""
        if self._table is None:
            self._write_json(record)
            return
        self._table.add(row, record)
        self._flush()

    def finish(self) -> None:
        """Write the header where there was no row."""
        if self._table is not None:
            self._flush()

    def _flush(self) -> None:
        self._write_text(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()

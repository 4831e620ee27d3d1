"""Answers as CSV: the columns of the input, and those of the answer."""

import csv
import json
from collections.abc import Iterable
from typing import Any, Final, TextIO

from tanuki_cli.batch.results import renamed
from tanuki_cli.batch.rows import Row
from tanuki_cli.jsonl import JsonObject

_ANSWER: Final = ("answer", "finish_reason", "error")
_MOST_COLUMNS: Final = 1000


class AnswerTable:
    """Writes CSV to ``file``, the header at once."""

    def __init__(self, file: TextIO, columns: Iterable[str]) -> None:
        self._names = list(renamed(dict.fromkeys(columns, "?")))
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(["id", *self._names, *_ANSWER])

    def add(self, row: Row, record: JsonObject) -> None:
        """The line of ``row``, whose ``record`` is in either form."""
        fields = renamed(row.fields)
        self._writer.writerow([row.key, *(_cell(fields.get(name)) for name in self._names), *_answer(record)])


def all_columns(rows: Iterable[Row]) -> list[str]:
    """The names of the fields that rows have, in the order of their first appearance; so many at most."""
    names: dict[str, None] = {}
    for row in rows:
        if len(names) < _MOST_COLUMNS:
            names.update(dict.fromkeys(row.fields))
    return list(names)


def _answer(record: JsonObject) -> list[str]:
    response = record.get("response")
    if isinstance(response, dict):
        choice = response["body"]["choices"][0]
        answer, finish_reason = choice["message"]["content"], choice["finish_reason"]
    else:
        answer, finish_reason = record.get("answer"), record.get("finish_reason")
    error = record.get("error")
    return [_cell(answer), _cell(finish_reason), _cell(error["message"] if isinstance(error, dict) else None)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The file of answers: appended row by row, and gone on with by the next run.

A line is on the disk before the next step is taken, so that a kill loses nothing finished; the torn end of
a line is cut off by the next run. Beside the answers, ``NAME.run.json`` says what they were made with.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from msgspec import Struct

from tanuki_cli.batch.results import OPENAI_ID
from tanuki_cli.batch.rows import Row, own_id
from tanuki_cli.errors import InputError, brief
from tanuki_cli.files import read_bounded, replacing, write_atomically
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, RecordFile, read_lines, unwritable, writing_alone

_MAX_MADE_BYTES: Final = 16 << 20
_FORCE: Final = "--force"


class Done(Struct, frozen=True):
    """What is known of a row that has a line already: the digest of the row, and whether it failed."""

    digest: str
    failed: bool


class OutputFile:
    """The answers in ``path``, made with ``identity``: values by name that must not change between runs.

    A context manager. Entering raises InputError if another run writes the file, if it cannot be written,
    and, unless ``force``, if what is there was made with something else. ``note`` gets sentences for the
    user.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, object], *, force: bool, note: Callable[[str], None]
    ) -> None:
        self.path = path
        self.done: dict[str, Done] = {}
        self._identity = json.loads(json.dumps(identity))  # as it is read back
        self._force = force
        self._note = note
        self._lines_there = False
        self._changed: set[str] = set()
        self._stack = ExitStack()
        self._appending = ExitStack()
        self._file = RecordFile(path, lock=False)

    def __enter__(self) -> "OutputFile":
        with ExitStack() as stack:
            stack.enter_context(writing_alone(self.path))
            if self.path.exists():
                self._read()
            if self._lines_there and not self._force:
                self._check_identity()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._appending.close()
        self._stack.close()

    def check_rows(self, rows: Iterable[Row]) -> int:
        """Compare what is there with the input; returns how many rows it has.

        A row that has changed is to be asked again with ``force``. Raises InputError without it, and what
        reading the rows raises.
        """
        count, left = 0, set(self.done)
        for row in rows:
            count += 1
            left.discard(row.key)
            known = self.done.get(row.key)
            if known is not None and known.digest != row.digest:
                if not self._force:
                    raise self._other_rows(row.number)
                self._changed.add(row.key)
        if left and not self._force:
            raise self._other_rows(None)
        return count

    def _other_rows(self, number: int | None) -> InputError:
        message = (
            _("{path} holds answers to rows that are not in the input any more.")
            if number is None
            else _("{path} holds an answer to what was on line {number} of the input before it changed.")
        )
        return InputError(
            message.format(path=self.path, number=number),
            hint=_("Choose another file with -o, or go on all the same: {option}").format(option=_FORCE),
        )

    def begin(self, *, again: bool = False) -> None:
        """Get ready to append. The lines of rows that have changed, and with ``again`` of those that failed,
        are taken out: they are to be asked once more."""
        failed = {key for key, done in self.done.items() if done.failed} if again else set()
        if asked_again := self._changed | failed:
            self._rewrite(lambda: (place for place, key in self._keys() if key not in asked_again))
            self.done = {key: done for key, done in self.done.items() if key not in asked_again}
        made = {"identity": self._identity}
        try:
            write_atomically(self.made_path, json.dumps(made, ensure_ascii=False, indent=1) + "\n")
        except OSError as exc:
            raise unwritable(self.made_path, exc) from exc
        self._appending.enter_context(self._file)

    def append(self, record: JsonObject) -> None:
        """Write the line of a row; it is on the disk then. Raises InputError if it cannot be written."""
        self._file.append(record)

    def put_in_order(self, rows: Iterable[Row]) -> None:
        """Write the lines in the order of ``rows``, those of no row first; readers find the old file or the
        new one. Nothing can be appended any more."""
        self._appending.close()

        def places() -> Iterator[int]:
            by_key = self._places()
            yield from (place for place, key in self._keys() if key is None)
            for row in rows:
                if (place := by_key.pop(row.key, None)) is not None:
                    yield place
            yield from by_key.values()

        self._rewrite(places)

    def records(self, rows: Iterable[Row]) -> Iterator[tuple[Row, JsonObject]]:
        """The rows that have a line, in their order, with it."""
        places = self._places()
        with self.path.open("rb") as file:
            for row in rows:
                place = places.get(row.key)
                if place is not None:
                    file.seek(place)
                    yield row, json.loads(file.readline())

    @property
    def made_path(self) -> Path:
        """Where it stands what the answers were made with."""
        return self.path.with_name(f"{self.path.name}.run.json")

    def _read(self) -> None:
        left_out = None
        for _number, value in read_lines(self.path, limit=None):
            self._lines_there = True
            if left_out is not None:
                self._note(str(left_out))
            left_out = value if isinstance(value, LeftOut) else None
            if isinstance(value, LeftOut):
                continue
            key, digest = key_of(value)
            if key is not None:
                self.done[key] = Done(digest, value.get("error") is not None)
        # The last line may be the torn end that a killed run left: nobody needs to hear of it.

    def _check_identity(self) -> None:
        before = self._made_with()
        if not before:
            raise InputError(
                _("{path} is not an output of tanuki batch, or {note} beside it is gone.").format(
                    path=self.path, note=self.made_path.name
                ),
                hint=_("Choose another file with -o, or go on all the same: {option}").format(option=_FORCE),
            )
        names = sorted(
            name for name in {*before, *self._identity} if before.get(name) != self._identity.get(name)
        )
        if names:
            raise InputError(
                _("{path} holds answers of another run; these differ: {names}.").format(
                    path=self.path, names=brief(", ".join(names))
                ),
                hint=_("Choose another file with -o, or go on all the same: {option}").format(option=_FORCE),
            )

    def _made_with(self) -> Mapping[str, Any]:
        try:
            value = json.loads(read_bounded(self.made_path, limit=_MAX_MADE_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        identity = value.get("identity") if isinstance(value, dict) else None
        return identity if isinstance(identity, dict) else {}

    def _rewrite(self, places: Callable[[], Iterator[int]]) -> None:
        """Keep the lines that begin at ``places``, in their order."""
        try:
            with replacing(self.path) as file, self.path.open("rb") as old:
                for place in places():
                    old.seek(place)
                    file.write(old.readline())
        except OSError as exc:
            raise unwritable(self.path, exc) from exc

    def _keys(self) -> Iterator[tuple[int, str | None]]:
        """Where each line begins, and the key of its row."""
        with self.path.open("rb") as file:
            place = 0
            for line in file:
                yield place, _key(line)
                place += len(line)

    def _places(self) -> dict[str, int]:
        """Where the line of each row begins."""
        return {key: place for place, key in self._keys() if key is not None}


def _key(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return key_of(value)[0] if isinstance(value, dict) else None


def key_of(record: JsonObject) -> tuple[str | None, str]:
    """The key of the row that a line is of, and the row's digest; None for a line that is not ours."""
    id_, digest = record.get("id"), record.get("digest")
    if not isinstance(id_, str):
        return None, ""
    if isinstance(digest, str):
        return id_, digest
    return (own_id(record), id_.removeprefix(OPENAI_ID)) if id_.startswith(OPENAI_ID) else (None, "")

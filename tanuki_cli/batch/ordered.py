"""Outcomes in the order of their rows, for who cannot sort them later."""

from collections import deque
from collections.abc import Callable, Iterator

from tanuki_cli.batch.results import Outcome
from tanuki_cli.batch.rows import Row


class InOrder:
    """Passes outcomes on to ``write`` in the order in which :meth:`rows` gave their rows."""

    def __init__(self, write: Callable[[Outcome], None]) -> None:
        self._write = write
        self._waiting: deque[str] = deque()
        self._held: dict[str, Outcome] = {}

    def rows(self, rows: Iterator[Row]) -> Iterator[Row]:
        """``rows``, whose order counts."""
        for row in rows:
            self._waiting.append(row.key)
            yield row

    def write(self, outcome: Outcome) -> None:
        """Pass it on, and those that waited for it; or let it wait."""
        self._held[outcome.row.key] = outcome
        while self._waiting and (next_one := self._held.pop(self._waiting[0], None)) is not None:
            self._waiting.popleft()
            self._write(next_one)

    def flush(self) -> None:
        """Pass on what still waits for rows that will not come."""
        while self._waiting:
            if (next_one := self._held.pop(self._waiting.popleft(), None)) is not None:
                self._write(next_one)

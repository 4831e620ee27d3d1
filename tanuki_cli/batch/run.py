"""Answers rows with an :class:`~tanuki_cli.engines.base.Answerer`, as many at a time as it has places for."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.batch.requests import Asking, make_request
from tanuki_cli.batch.results import Answering, Outcome
from tanuki_cli.batch.rows import Row
from tanuki_cli.engines.answers import Job, Progress
from tanuki_cli.engines.base import Answerer, GenerationCancelled
from tanuki_cli.errors import InputError, InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt

_FAILURES_IN_A_ROW: Final = 30
"""So many answers that all fail: it is the model or the server, and no more are asked for."""
_MOST_AHEAD: Final = 256
"""Rows that may be asked before one that is not answered yet: who prints in order holds that many."""
_MOST_NAMED: Final = 20


class BatchState(Struct, frozen=True, kw_only=True):
    """How far a run is: rows ``answered`` and ``failed`` by it, and the tokens that it generated.

    ``guarded`` lines of the rows imitated a turn heading; of ``shortened`` rows the oldest messages did
    not fit into the context. ``ignored`` are fields of requests that nobody here knows: some of them.
    """

    answered: int = 0
    failed: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    guarded: int = 0
    shortened: int = 0
    ignored: tuple[str, ...] = ()
    seconds: float = 0.0


class BatchRun:
    """One run over rows. ``write`` gets each outcome when it is there, ``report`` the state at every step."""

    def __init__(
        self,
        answerer: Answerer,
        asking: Asking,
        *,
        remote: bool,
        write: Callable[[Outcome], None],
        report: Callable[[BatchState], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = BatchState()
        self._answerer = answerer
        self._asking = asking
        self._remote = remote
        self._write = write
        self._report = report
        self._clock = clock
        self._running: dict[Job, Answering] = {}
        self._fed: dict[Job, int] = {}
        self._failures = 0
        self._interrupted = False

    def run(self, rows: Iterator[Row]) -> None:
        """Answer ``rows``.

        Raises InterruptedByUser at Ctrl-C, EngineError where the model fails, and the error of an answer
        where so many fail in a row that the rest would too. Every outcome was written by then.
        """
        started = self._clock()
        number = 0
        while True:
            while self._has_room(number) and (row := next(rows, None)) is not None:
                number += 1
                self._add(row, number)
            if not self._running:
                return
            with on_interrupt(self._interrupt):  # what came is written before anything is raised
                self._advance()
                self.state = replace(self.state, seconds=self._clock() - started)
                self._report(self.state)
            if self._interrupted:
                raise InterruptedByUser(_("Interrupted."))

    def _has_room(self, number: int) -> bool:
        # Some wait, so that no place is empty from one step to the next.
        if len(self._running) >= 2 * self._answerer.places:
            return False
        return number - next(iter(self._fed.values()), number) < _MOST_AHEAD

    def _add(self, row: Row, number: int) -> None:
        try:
            request = make_request(row, self._asking)
        except InputError as error:
            self._end(Outcome(row=row, error=error))
            return
        self.state = replace(
            self.state,
            guarded=self.state.guarded + request.guarded,
            ignored=_some(self.state.ignored, request.ignored),
        )
        self._running[request.job] = Answering(request)
        self._fed[request.job] = number
        self._answerer.add(request.job)

    def _advance(self) -> None:
        try:
            for progress in self._answerer.advance():
                self._take(progress)
        except GenerationCancelled:
            self._running.clear()

    def _take(self, progress: Progress) -> None:
        answering = self._running.get(progress.job)
        if answering is None:
            return
        if progress.error is not None:
            self._forget(progress.job)
            self._end(answering.failed(progress.error))
            return
        chunk = progress.chunk
        assert chunk is not None
        answering.take(chunk)
        if (error := answering.too_long) is not None:
            if chunk.finish_reason is None:
                self._answerer.drop(progress.job)
            self._forget(progress.job)
            self._end(answering.failed(error))
            return
        self.state = replace(self.state, tokens=self.state.tokens + chunk.token_count)
        if chunk.finish_reason is None:
            return
        self._forget(progress.job)
        if chunk.finish_reason != "interrupted":
            self._end(answering.ended(chunk, remote=self._remote))

    def _forget(self, job: Job) -> None:
        del self._running[job], self._fed[job]

    def _end(self, outcome: Outcome) -> None:
        state = self.state
        self._write(outcome)
        if outcome.usage is not None:
            state = replace(state, prompt_tokens=state.prompt_tokens + outcome.usage.prompt_tokens)
        self.state = replace(
            state,
            answered=state.answered + (outcome.error is None),
            failed=state.failed + (outcome.error is not None),
            shortened=state.shortened + bool(outcome.dropped),
        )
        # A row that cannot be asked says nothing about those after it.
        if outcome.error is None:
            self._failures = 0
        elif not isinstance(outcome.error, InputError) and outcome.text is None:
            self._failures += 1
            if self._failures >= _FAILURES_IN_A_ROW:
                raise outcome.error

    def _interrupt(self) -> None:
        self._interrupted = True
        self._answerer.cancel()


def _some(names: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *more)))[:_MOST_NAMED]

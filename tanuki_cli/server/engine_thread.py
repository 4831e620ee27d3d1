"""The one thread that owns the model, and what the event loop hands to it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.answers import Chunk, Job, Progress
from tanuki_cli.engines.base import Answerer, GenerationCancelled
from tanuki_cli.errors import TanukiError
from tanuki_cli.server.answers import Answers
from tanuki_cli.server.faults import ApiError, ended, translated

MAX_WAITING: Final = 256
"""How many answers may wait for a place."""
_TIMED: Final = 32
"""The time that the last so many answers took says when to come again."""


class Load(Struct):
    """What the engine did so far, and has to do."""

    running: int = 0
    waiting: int = 0
    finished: int = 0
    dropped: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class EngineThread:
    """Runs jobs on ``answerer``, which is its own from now on, :meth:`close` too.

    After ``idle_s`` without a job it frees the model, and ``load`` gets it again for the next one.
    ``on_end`` is called, in the event loop, if the thread ends unasked.
    """

    def __init__(
        self,
        answerer: Answerer,
        *,
        load: Callable[[], Answerer],
        idle_s: float | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.load = Load()
        self.places = answerer.places
        self.asleep = False
        self.ended = self.broke_off = False
        self._answerer: Answerer | None = answerer
        self._load_again = load
        self._idle_s = idle_s
        self._on_end = on_end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: dict[Job, tuple[Answers, int, float]] = {}
        self._seconds: deque[float] = deque(maxlen=_TIMED)
        self._inbox: SimpleQueue[tuple[Job, ...] | None] = SimpleQueue()
        # What both threads touch, under the lock.
        self._lock = Lock()
        self._waiting: set[Job] = set()  # in the inbox
        self._working: set[Job] = set()  # the answerer's
        self._dropped = False
        self._closing = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work for ``loop``."""
        self._loop = loop
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> Answers:
        """Have ``jobs`` answered. Raises ApiError, 429, where too many wait already."""
        if self.ended or self._closing:
            raise ended()
        if len(self._held) + len(jobs) > self.places + MAX_WAITING:
            self.load.refused += 1
            raise ApiError(
                429,
                f"{len(self._held)} answers are being worked on or wait already. Try again later.",
                kind="rate_limit_error",
                code="queue_full",
                headers={"retry-after": str(self._seconds_to_wait())},
            )
        answers = Answers(jobs)
        for index, job in enumerate(jobs):
            self._held[job] = (answers, index, time.monotonic())
        with self._lock:
            self._waiting.update(jobs)
        self._inbox.put(answers.jobs)  # together, so that they begin together
        self._count()
        return answers

    def drop(self, answers: Answers) -> None:
        """Forget what of ``answers`` is not done: the engine stops with it within one step."""
        for job in answers.jobs:
            if self._held.pop(job, None) is not None:
                self.load.dropped += 1
                self._forget(job)
        self._count()

    def close(self) -> None:
        """Stop everything, free the model, and wait until that is done."""
        with self._lock:
            self._closing = True
            if self._working and self._answerer is not None:
                self._answerer.cancel()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    # In the event loop.

    def _deliver(self, progress: Iterable[Progress]) -> None:
        for one in progress:
            held = self._held.get(one.job)
            if held is None:
                continue  # dropped in the meantime
            answers, index, since = held
            if one.is_last:
                del self._held[one.job]
                self._seconds.append(time.monotonic() - since)
            if one.error is not None:
                self.load.failed += 1
                answers.fail(translated(one.error))
            elif one.chunk is not None and one.chunk.finish_reason == "interrupted":
                self.load.failed += 1
                answers.fail(ended())
            elif one.chunk is not None:
                self._add_up(one.chunk)
                answers.put(index, one.chunk)
        self._count()

    def _fail(self, jobs: Iterable[Job], error: ApiError) -> None:
        for job in jobs:
            held = self._held.pop(job, None)
            if held is not None:
                self.load.failed += 1
                held[0].fail(error)
        self._count()

    def _end(self) -> None:
        self.ended = True
        self._fail(tuple(self._held), ended())
        if not self._closing:
            self.broke_off = True
            self._on_end()

    def _add_up(self, chunk: Chunk) -> None:
        if chunk.plan is None:
            self.load.completion_tokens += chunk.token_count
        if chunk.usage is not None:
            self.load.finished += 1
            self.load.prompt_tokens += chunk.usage.prompt_tokens
            self.load.cached_tokens += chunk.usage.cached_tokens

    def _count(self) -> None:
        self.load.running = min(len(self._held), self.places)
        self.load.waiting = len(self._held) - self.load.running

    def _seconds_to_wait(self) -> int:
        """About when a place is free for one more: answers that come at once share the time of each."""
        usual = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return max(1, min(60, round(usual / 2)))

    # In the engine thread, but for _forget.

    def _run(self) -> None:
        try:
            while self._collect():
                self._advance()
        finally:
            if self._answerer is not None:
                self._answerer.close()
            self._post(self._end)

    def _collect(self) -> bool:
        """Take what came in, and wait where there is nothing to do; False at the end."""
        while not self._closing:
            busy = bool(self._working) or self._dropped
            try:
                jobs = self._inbox.get(block=not busy, timeout=self._idle_s)
            except Empty:
                if busy:
                    return True
                self._sleep()
                continue
            for job in jobs or ():
                self._add(job)
        return False

    def _add(self, job: Job) -> None:
        if self._answerer is None and not self._wake(job):
            return
        with self._lock:
            if job in self._waiting and self._answerer is not None:
                self._waiting.discard(job)
                self._working.add(job)
                self._answerer.add(job)

    def _advance(self) -> None:
        assert self._answerer is not None
        self._dropped = False
        try:
            progress = self._answerer.advance()
        except GenerationCancelled:
            self._fail_working(ended())
        except TanukiError as error:  # the model itself; the next jobs may fare better
            self._fail_working(translated(error))
        else:
            with self._lock:
                self._working.difference_update(one.job for one in progress if one.is_last)
            self._post(self._deliver, progress)

    def _fail_working(self, error: ApiError) -> None:
        with self._lock:
            jobs = tuple(self._working)
            self._working.clear()
        self._post(self._fail, jobs, error)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._waiting.discard(job)
            if job in self._working and self._answerer is not None:
                self._working.discard(job)
                self._dropped = True
                self._answerer.drop(job)

    def _sleep(self) -> None:
        if self._answerer is not None:
            self._answerer.close()
            self._answerer = None
            self.asleep = True

    def _wake(self, job: Job) -> bool:
        """Get the model again, for ``job``; whether it came."""
        if job not in self._waiting:
            return False
        try:
            self._answerer = self._load_again()
        except TanukiError as error:
            self._waiting.discard(job)
            self._post(self._fail, (job,), translated(error))
            return False
        self.asleep = False
        return True

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # it is closed: after a second signal nobody waits for the thread
            self._loop.call_soon_threadsafe(call, *arguments)

"""Several answers from a server at once: as many connections, each with a thread that waits for it.

The threads do nothing but that. What they hear is taken by the one thread that uses the answerer.
"""

import time
from collections.abc import Callable
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import RLock, Thread
from typing import Final, Protocol

from tanuki_cli.engines.answers import Job, Progress
from tanuki_cli.engines.base import Engine, GenerationCancelled
from tanuki_cli.engines.one_by_one import answer
from tanuki_cli.engines.remote.sockets import POLL_S
from tanuki_cli.errors import TanukiError

_LONGEST_END_S: Final = 2.0
"""A thread that looks a name up cannot be stopped; it ends by itself."""


class RemoteAnswerer:
    """Implements :class:`~tanuki_cli.engines.base.Answerer`; ``connect`` makes an engine for each place,
    ``close`` is called at the end. Each job is answered as by ``Engine.stream``, with its retries."""

    def __init__(self, connect: Callable[[], Engine], places: int, *, close: Callable[[], None]) -> None:
        self.places = places
        self._connect = connect
        self._close = close
        self._threads: list[_Place] = []
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        # What threads have to tell; a signal handler may put into it, too.
        self._told: SimpleQueue[Progress | BaseException | None] = SimpleQueue()
        self._wanted: set[Job] = set()
        self._started: set[Job] = set()
        self._cancelled = False
        self._lock = RLock()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a connection."""
        with self._lock:
            return len(self._wanted - self._started)

    def add(self, job: Job) -> None:
        """Take ``job``."""
        with self._lock:
            self._wanted.add(job)
        self._queue.put(job)
        if len(self._threads) < min(self.places, len(self._wanted)):
            place = _Place(self)
            self._threads.append(place)
            place.thread.start()

    def advance(self) -> list[Progress]:
        """Wait until there is something new; see :meth:`Answerer.advance
        <tanuki_cli.engines.base.Answerer.advance>`."""
        while True:
            if self._cancelled:
                self._forget()
                self._cancelled = False
                raise GenerationCancelled
            if not self._wanted:
                return []
            if new := self._taken():
                return new

    def _taken(self) -> list[Progress]:
        """What threads have told of jobs that are wanted; waits a moment for it."""
        new: list[Progress] = []
        try:
            # Not for ever: a signal that came to another thread does not end this wait.
            one = self._told.get(timeout=POLL_S)
            while not self._cancelled:
                if isinstance(one, BaseException):  # a fault of this program: the thread is gone
                    raise one
                with self._lock:
                    if one is not None and one.job in self._wanted:
                        new.append(one)
                        if one.is_last:
                            self._wanted.discard(one.job)
                one = self._told.get_nowait()
        except Empty:
            pass
        return new

    def drop(self, job: Job) -> None:
        """Forget ``job``, and close its connection."""
        with self._lock:
            self._wanted.discard(job)
            for place in self._threads:
                place.stop(job)
        self._told.put(None)  # it may be the last that is waited for

    def cancel(self) -> None:
        """Stop everything; see :meth:`Answerer.cancel <tanuki_cli.engines.base.Answerer.cancel>`."""
        self._cancelled = True
        for place in self._threads:
            place.stop()
        self._told.put(None)

    def close(self) -> None:
        """Forget all jobs, end the threads and close the connections."""
        self._forget()
        for _place in self._threads:
            self._queue.put(None)
        ends = time.monotonic() + _LONGEST_END_S
        for place in self._threads:
            place.thread.join(max(ends - time.monotonic(), 0))
        self._threads.clear()
        self._close()

    def _forget(self) -> None:
        with self._lock:
            self._wanted.clear()
            for place in self._threads:
                place.stop()

    def begin(self, job: Job) -> bool:
        """Whether a place may work on ``job``, which is wanted still. For the threads."""
        with self._lock:
            if job in self._wanted:
                self._started.add(job)
            return job in self._wanted

    def tell(self, progress: Progress) -> bool:
        """Pass it on; whether the job is still wanted. For the threads."""
        with self._lock:
            if progress.job not in self._wanted:
                return False
            self._told.put(progress)
            return True

    def end(self, job: Job) -> None:
        """A place has done with ``job``. For the threads."""
        with self._lock:
            self._started.discard(job)

    def work(self, place: "_Place") -> None:
        """Answer jobs until there are no more. For the threads."""
        try:
            with closing(self._connect()) as engine:
                while (job := self._queue.get()) is not None:
                    if self.begin(job):
                        place.answer(job, engine)
                        self.end(job)
        except BaseException as exc:  # noqa: BLE001 - the thread that waits must hear of it
            self._told.put(exc)


class _Teller(Protocol):
    def tell(self, progress: Progress) -> bool: ...

    def work(self, place: "_Place") -> None: ...


class _Place:
    """A thread and its connection; ``job`` is what it works on."""

    def __init__(self, owner: _Teller) -> None:
        self._owner = owner
        self._job: Job | None = None
        self._engine: Engine | None = None
        self.thread = Thread(target=owner.work, args=(self,), name="tanuki-connection", daemon=True)

    def stop(self, job: Job | None = None) -> None:
        """Stop working on ``job``, or on whatever it is; only sets a flag."""
        engine = self._engine
        if engine is not None and (job is None or self._job is job):
            engine.cancel()

    def answer(self, job: Job, engine: Engine) -> None:
        """Tell what comes of ``job`` until it ends, or is not wanted any more."""
        self._job, self._engine = job, engine
        try:
            with closing(answer(engine, job)) as chunks:
                for chunk in chunks:
                    # The first comes before anything is sent: who was stopped by then sends nothing.
                    if not self._owner.tell(Progress(job=job, chunk=chunk)):
                        return
        except GenerationCancelled:
            pass  # nobody wants it any more
        except TanukiError as error:
            self._owner.tell(Progress(job=job, error=error))
        finally:
            self._job = None

"""Several answers from an engine that gives one at a time."""

from collections import deque
from collections.abc import Generator
from threading import RLock

from tanuki_cli.engines.answers import Chunk, Job, Progress
from tanuki_cli.engines.base import Engine, GenerationCancelled
from tanuki_cli.errors import TanukiError


def answer(engine: Engine, job: Job) -> Generator[Chunk, None, None]:
    """What ``engine`` says to ``job``, whichever way that asks."""
    if job.prompt_ids:
        return engine.complete(job.prompt_ids, job.options, job.form)
    return engine.stream(job.messages, job.options, job.form)


class OneByOne:
    """Implements :class:`~tanuki_cli.engines.base.Answerer` on any engine: jobs are answered in turn."""

    places = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: deque[Job] = deque()
        self._dropped: set[Job] = set()
        self._running: Job | None = None
        self._chunks: Generator[Chunk, None, None] | None = None
        self._cancelled = False
        # A drop must not stop the job that took the dropped one's place in the meantime.
        self._lock = RLock()

    @property
    def waiting(self) -> int:
        """How many jobs wait for the running one to end."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Take ``job``; it is answered after those before it."""
        self._jobs.append(job)

    def advance(self) -> list[Progress]:
        """Work until there is something new; see :meth:`Answerer.advance
        <tanuki_cli.engines.base.Answerer.advance>`."""
        while True:
            if self._cancelled:
                self._forget()
                self._cancelled = False
                raise GenerationCancelled
            if self._chunks is None and not self._start():
                return []
            progress = self._next()
            if self._running in self._dropped or self._cancelled:
                self._end()
                continue
            if progress.is_last:
                self._end()
            return [progress]

    def drop(self, job: Job) -> None:
        """Forget ``job``, and stop the engine if that runs it."""
        with self._lock:
            self._dropped.add(job)
            if self._running is job:
                self._engine.cancel()

    def cancel(self) -> None:
        """Stop everything; see :meth:`Answerer.cancel <tanuki_cli.engines.base.Answerer.cancel>`."""
        self._cancelled = True
        self._engine.cancel()

    def close(self) -> None:
        """Forget all jobs and free the model."""
        self._forget()
        self._engine.close()

    def _start(self) -> bool:
        """Begin with the next job that is still wanted."""
        while self._jobs:
            job = self._jobs.popleft()
            with self._lock:
                if job in self._dropped:
                    self._dropped.discard(job)
                    continue
                self._running = job
            self._chunks = answer(self._engine, job)
            return True
        self._dropped.clear()  # those that were dropped after their end
        return False

    def _next(self) -> Progress:
        assert self._chunks is not None
        assert self._running is not None
        try:
            return Progress(job=self._running, chunk=next(self._chunks))
        except TanukiError as error:
            return Progress(job=self._running, error=error)

    def _end(self) -> None:
        with self._lock:
            if self._running is not None:
                self._dropped.discard(self._running)
            self._running = None
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None

    def _forget(self) -> None:
        self._jobs.clear()
        self._end()
        self._dropped.clear()

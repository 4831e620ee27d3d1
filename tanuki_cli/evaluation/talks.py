"""Many conversations with one model at the same time, each of them written as if it were alone.

A talk is a generator: it yields what it asks, gets the whole answer back, or the error that came instead,
and asks on.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Chunk, Job, Progress
from tanuki_cli.engines.base import Answerer, GenerationCancelled
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.evaluation.asking import Completion
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.sampling import SamplingOptions


class Asked(Struct, frozen=True, kw_only=True):
    """What a talk asks: the last of ``messages``."""

    messages: Sequence[Message]
    options: SamplingOptions


Talk = Generator[Asked, Completion, None]


def hold_talks(
    answerer: Answerer, talks: Iterator[Talk], *, report: Callable[[int], None] = lambda count: None
) -> None:
    """Hold all of ``talks``, as many at a time as the answerer has places for; they begin in order.

    ``report`` is told of tokens as they come. Ctrl-C raises InterruptedByUser; what a talk raises, and what
    the model raises, ends all of them. What had come of answers is dropped then.
    """
    talking = _Talking(answerer, report)
    try:
        talking.hold(talks)
    finally:
        talking.leave()


class _Talking:
    def __init__(self, answerer: Answerer, report: Callable[[int], None]) -> None:
        self._answerer = answerer
        self._report = report
        self._running: dict[Job, tuple[Talk, list[Chunk]]] = {}
        self._interrupted = False

    def hold(self, talks: Iterator[Talk]) -> None:
        while True:
            while len(self._running) < self._answerer.places and (talk := next(talks, None)) is not None:
                self._go_on(talk, partial(next, talk))
            if not self._running:
                return
            for progress in self._news():
                self._take(progress)

    def _news(self) -> list[Progress]:
        with on_interrupt(self._interrupt):
            try:
                news = self._answerer.advance()
            except GenerationCancelled:
                news = []
        if self._interrupted:
            raise InterruptedByUser(_("Interrupted."))
        return news

    def _take(self, progress: Progress) -> None:
        found = self._running.get(progress.job)
        if found is None:
            return
        talk, chunks = found
        if progress.error is not None:
            del self._running[progress.job]
            self._go_on(talk, partial(talk.throw, progress.error))
        elif progress.chunk is not None:
            chunks.append(progress.chunk)
            self._report(progress.chunk.token_count)
            if progress.is_last:
                del self._running[progress.job]
                self._go_on(talk, partial(talk.send, _completion(chunks)))

    def _go_on(self, talk: Talk, step: Callable[[], Asked]) -> None:
        """Let ``talk`` ask its next question, if it has one."""
        try:
            asked = step()
        except StopIteration:
            return
        job = Job(messages=asked.messages, options=asked.options)
        self._running[job] = talk, []
        self._answerer.add(job)

    def _interrupt(self) -> None:
        self._interrupted = True
        self._answerer.cancel()

    def leave(self) -> None:
        """Let the answerer forget what runs still, and talks that have not ended be closed."""
        for job, (talk, _chunks) in self._running.items():
            self._answerer.drop(job)
            talk.close()


def _completion(chunks: Sequence[Chunk]) -> Completion:
    last = chunks[-1]
    assert last.finish_reason is not None
    assert last.usage is not None
    dropped = max((chunk.plan.dropped for chunk in chunks if chunk.plan is not None), default=0)
    return Completion(
        text="".join(chunk.text for chunk in chunks),
        finish_reason=last.finish_reason,
        usage=last.usage,
        dropped=dropped,
    )

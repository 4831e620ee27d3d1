"""An engine whose answerer works already, for who asks one thing at a time as well."""

from collections.abc import Generator, Sequence
from contextlib import suppress

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, Job, PromptPlan
from tanuki_cli.engines.base import Answerer, Engine, EngineInfo, GenerationCancelled
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer


class AnsweringEngine(Struct, frozen=True):
    """Implements :class:`~tanuki_cli.engines.base.Engine` on the ``answerer`` that was made of ``engine``.

    Nothing else may be waited for while a stream is read. Both are the caller's to close.
    """

    engine: Engine
    with_answerer: Answerer

    @property
    def info(self) -> EngineInfo:
        """What runs where."""
        return self.engine.info

    @property
    def tokenizer(self) -> ChatTokenizer | None:
        """What makes the ids."""
        return self.engine.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""
        return self.engine.context_length

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about how the model was opened."""
        return self.engine.notes

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What of ``messages`` would be sent."""
        return self.engine.plan(messages, options)

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message; see :meth:`Engine.stream <tanuki_cli.engines.base.Engine.stream>`."""
        return self._answer(Job(messages=messages, options=options, form=form))

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Go on from ``prompt_ids`` as they are."""
        return self._answer(Job(prompt_ids=prompt_ids, options=options, form=form))

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """No job is asked for that; the choices of a shape are scored with its answer."""
        raise NotImplementedError

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        """The one that works."""
        return self.with_answerer

    def cancel(self) -> None:
        """Ask the running stream to stop."""
        self.with_answerer.cancel()

    def close(self) -> None:
        """Free the model."""
        self.with_answerer.close()

    def _answer(self, job: Job) -> Generator[Chunk, None, None]:
        with suppress(GenerationCancelled):
            self.with_answerer.advance()  # a cancel that came too late for the stream before is not for this
        self.with_answerer.add(job)
        try:
            while news := self.with_answerer.advance():
                for progress in news:
                    if progress.job is not job:
                        continue
                    if progress.error is not None:
                        raise progress.error
                    if progress.chunk is not None:
                        yield progress.chunk
                    if progress.is_last:
                        return
        except GenerationCancelled:
            yield Chunk(finish_reason="interrupted")
        finally:
            self.with_answerer.drop(job)

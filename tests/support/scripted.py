"""Doubles that play a script: a TokenModel that answers with given ids, an Engine with given texts."""

from collections.abc import Callable, Collection, Generator, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tanuki_cli.conversation import FinishReason, Message, Usage
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, PromptPlan, Token
from tanuki_cli.engines.base import Answerer, EngineInfo, GenerationCancelled
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import TanukiError
from tanuki_cli.sampling import SamplingOptions

Script = Sequence[str | TanukiError | Callable[[], None]]
INFO = EngineInfo(model="script", engine="script", device="none")


class ScriptedModel:
    """A TokenModel that yields ``ids``; an exception among them is raised in its turn.

    ``bursts`` are the places of ids after which the next one is ready.
    """

    info = INFO
    tokenizer = None
    notes: tuple[str, ...] = ()
    cached_tokens = 0

    def __init__(
        self,
        ids: Iterable[int | Exception],
        *,
        context_length: int = 512,
        bursts: Collection[int] = (),
    ) -> None:
        self.context_length = context_length
        self.next_is_ready = False
        self._bursts = bursts
        self.prompts: list[list[int]] = []
        self.closed = False
        self.generators_closed = 0
        self._ids = list(ids)
        self._cancelled = False

    def generate(
        self,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        mask: LogitsMask | None = None,
        logprobs: int = 0,
    ) -> Generator[Token, None, None]:
        self._cancelled = False
        return self._generate(prompt_ids)

    def _generate(self, prompt_ids: Sequence[int]) -> Generator[Token, None, None]:
        self.prompts.append(list(prompt_ids))
        try:
            for place, id_ in enumerate(self._ids):
                self.next_is_ready = place in self._bursts
                if self._cancelled:
                    raise GenerationCancelled
                if isinstance(id_, Exception):
                    raise id_
                yield Token(id_)
        finally:
            self.generators_closed += 1

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> Generator[NDArray[np.float32], None, None]:
        raise NotImplementedError("a script has no numbers")

    def cancel(self) -> None:
        self._cancelled = True

    def close(self) -> None:
        self.closed = True


class ScriptedEngine:
    """An Engine that answers with the next script: texts, callables run in between, or an error to raise."""

    info = INFO
    tokenizer = None
    notes: tuple[str, ...] = ()

    def __init__(self, *scripts: Script, context_length: int = 4096) -> None:
        self.context_length = context_length
        self.seen: list[list[Message]] = []
        self.finish_reason: FinishReason = "stop"
        self._scripts = list(scripts)
        self._cancelled = False

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        return PromptPlan(
            messages=tuple(messages), dropped=0, prompt_tokens=len(messages), limit=self.context_length
        )

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        self.seen.append(list(messages))
        self._cancelled = False
        yield Chunk(plan=self.plan(messages, options))
        count = 0
        finish_reason = self.finish_reason
        for step in self._scripts.pop(0):
            if callable(step):
                step()
            if self._cancelled:
                finish_reason = "interrupted"
                break
            if isinstance(step, TanukiError):
                raise step
            if isinstance(step, str):
                count += 1
                yield Chunk(text=step, token_count=1)
        yield Chunk(
            finish_reason=finish_reason,
            usage=Usage(prompt_tokens=len(messages), completion_tokens=count),
            seed=options.with_seed().seed,
        )

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        raise NotImplementedError

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        raise NotImplementedError

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        return OneByOne(self)

    def cancel(self) -> None:
        self._cancelled = True

    def close(self) -> None:
        pass

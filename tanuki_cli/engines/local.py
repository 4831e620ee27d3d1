"""An engine on this machine: template → ids → TokenModel → text, with the stop rules."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import (
    PLAIN,
    AnswerForm,
    AnswerScore,
    Chunk,
    PromptPlan,
    Token,
    likeliest_tokens,
)
from tanuki_cli.engines.base import Answerer, EngineInfo, GenerationCancelled
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.engines.prompting import Prompt, Prompter, prompt_limit
from tanuki_cli.engines.token_model import ParallelModel, TokenModel
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

__all__ = ["LocalEngine", "prompt_limit"]


class LocalEngine:
    """Implements :class:`~tanuki_cli.engines.base.Engine` on a :class:`TokenModel`."""

    def __init__(
        self,
        model: TokenModel,
        tokenizer: ChatTokenizer,
        *,
        get_again: str = "",
        parallel: Callable[[int | None, bool], ParallelModel] | None = None,
    ) -> None:
        """``get_again`` is the advice for a model whose files turn out to be damaged. ``parallel`` makes of
        ``model`` one for so many requests at once, where it can be one; the second argument says whether
        somebody reads each answer as it comes."""
        self._model = model
        self._prompter = Prompter(tokenizer, context_length=model.context_length, get_again=get_again)
        self._tokenizer = tokenizer
        self._parallel = parallel
        self._cancelled = False

    @property
    def info(self) -> EngineInfo:
        """What runs where."""
        return self._model.info

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""
        return self._model.context_length

    @property
    def tokenizer(self) -> ChatTokenizer:
        """What makes the ids."""
        return self._tokenizer

    @property
    def token_model(self) -> TokenModel:
        """The backend, for measurements."""
        return self._model

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user about how the model was loaded."""
        return self._model.notes

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What of ``messages`` is sent. Raises PromptTooLongError if the newest alone does not fit."""
        return self._prompter.chat(messages, options, PLAIN).plan

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message; see :meth:`Engine.stream <tanuki_cli.engines.base.Engine.stream>`."""
        self._cancelled = False
        yield from self._stream(self._prompter.chat(messages, options, form))

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Go on from ``prompt_ids``; see :meth:`Engine.complete
        <tanuki_cli.engines.base.Engine.complete>`."""
        self._cancelled = False
        yield from self._stream(self._prompter.continuation(prompt_ids, options, form))

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """How likely each of ``answers`` is; see :meth:`Engine.score
        <tanuki_cli.engines.base.Engine.score>`."""
        self._cancelled = False
        longest = max(len(self._tokenizer.encode(answer)) for answer in answers) + 1
        prompt = self._prompter.chat(messages, SamplingOptions(max_new_tokens=longest), PLAIN)
        with self._prompter.advice():
            return self._scores(prompt.ids, answers, alternatives)

    def _stream(self, prompt: Prompt) -> Generator[Chunk, None, None]:
        """What comes at once is one chunk: nothing of it is shown late, waiting for a slow step after it."""
        first, answer = self._prompter.begin(prompt)
        yield first
        scores: list[AnswerScore] = []
        with self._prompter.advice(), closing(self._tokens(prompt, scores)) as tokens:
            try:
                for token in tokens:
                    answer.add(token)
                    if answer.ended:
                        break
                    if answer.text and not self._model.next_is_ready:
                        yield answer.take()
                answer.end("length")  # unless it ended otherwise: the context is full
            except GenerationCancelled:
                answer.end("interrupted")
            except EngineError:
                if answer.text:
                    yield answer.take()
                raise
        if answer.text:
            yield answer.take()
        usage = Usage(
            prompt_tokens=len(prompt.ids),
            completion_tokens=answer.completion_tokens,
            cached_tokens=0 if prompt.is_chosen else self._model.cached_tokens,
        )
        yield answer.last_chunk(usage, scores=tuple(scores))

    def _tokens(self, prompt: Prompt, scores: list[AnswerScore]) -> Generator[Token, None, None]:
        """The tokens of the answer; before them ``scores`` is filled where it is wanted."""
        logprobs = prompt.form.logprobs
        if choices := prompt.scored_choices:
            scores += self._scores(prompt.ids, choices, logprobs)
            if prompt.is_chosen:
                yield from likeliest_tokens(scores, logprobs=logprobs)
                return
        mask = self._prompter.mask(prompt)
        with closing(
            self._model.generate(prompt.ids, prompt.options, mask=mask, logprobs=logprobs)
        ) as generated:
            if self._cancelled:  # before the model ran: generate() has just forgotten it
                self._model.cancel()
            yield from generated

    def _scores(self, prompt_ids: list[int], answers: Sequence[str], alternatives: int) -> list[AnswerScore]:
        # Needs numpy, whose import takes longer than most chats ever need it.
        from tanuki_cli.engines.scoring import score_answers

        return score_answers(
            self._model,
            self._tokenizer,
            prompt_ids,
            answers,
            alternatives=alternatives,
            is_cancelled=lambda: self._cancelled,
        )

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        """This engine for several jobs: at once where its backend can, else one after another."""
        if self._parallel is None:
            return OneByOne(self)
        from tanuki_cli.engines.parallel import ParallelAnswerer  # most models answer one at a time

        with self._prompter.advice():
            return ParallelAnswerer(self._parallel(places, interactive), self._prompter)

    def cancel(self) -> None:
        """Ask the running stream to stop; safe in a signal handler."""
        self._cancelled = True
        self._model.cancel()

    def close(self) -> None:
        """Free the model."""
        self._model.close()

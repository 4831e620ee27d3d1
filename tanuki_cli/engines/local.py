"""An engine on this machine: template → ids → TokenModel → text, with the stop rules."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tanuki_cli.conversation import FinishReason, Message, Usage
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, PromptPlan, Token
from tanuki_cli.engines.base import Answerer, EngineInfo, GenerationCancelled, TokenModel
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.engines.stops import OWN_STOP, StopMatcher
from tanuki_cli.errors import DamagedModelError, EngineError, InputError, PromptTooLongError
from tanuki_cli.i18n import _
from tanuki_cli.prompt import fit_context
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from tanuki_cli.engines.masks import LogitsMask
    from tanuki_cli.engines.shapes import Shape
    from tanuki_cli.engines.shapes.guidance import Guide


def prompt_limit(context_length: int, max_new_tokens: int) -> int:
    """Tokens a prompt may have: room is kept for the answer, but never more than half."""
    return context_length - min(max_new_tokens, context_length // 2)


class LocalEngine:
    """Implements :class:`~tanuki_cli.engines.base.Engine` on a :class:`TokenModel`."""

    def __init__(self, model: TokenModel, tokenizer: ChatTokenizer, *, get_again: str = "") -> None:
        """``get_again`` is the advice for a model whose files turn out to be damaged."""
        self._model = model
        self._get_again = get_again
        self._tokenizer = tokenizer
        self._cancelled = False
        self._guide: Guide | None = None

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
        return self._plan(messages, options)[0]

    def _plan(
        self, messages: Sequence[Message], options: SamplingOptions, begun: Sequence[int] = ()
    ) -> tuple[PromptPlan, list[int]]:
        limit = prompt_limit(self.context_length, options.max_new_tokens)
        with self._advice():
            kept = fit_context(messages, self._tokenizer, max_prompt_tokens=limit - len(begun))
            ids = [*self._tokenizer.encode_chat(kept), *begun]
        plan = PromptPlan(
            messages=tuple(kept), dropped=len(messages) - len(kept), prompt_tokens=len(ids), limit=limit
        )
        return plan, ids

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message; see :meth:`Engine.stream <tanuki_cli.engines.base.Engine.stream>`."""
        self._cancelled = False
        begun = self._begun(form)
        plan, prompt_ids = self._plan(messages, options, begun)
        yield from self._stream(plan, prompt_ids, options, form, begun)

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Go on from ``prompt_ids``; see :meth:`Engine.complete
        <tanuki_cli.engines.base.Engine.complete>`."""
        self._cancelled = False
        begun = self._begun(form)
        ids = [*prompt_ids, *begun]
        unknown = next((id_ for id_ in ids if not 0 <= id_ < self._tokenizer.vocab_size), None)
        if unknown is not None:
            raise InputError(_("The model has no token {id}.").format(id=unknown))
        if len(ids) >= self.context_length:
            raise PromptTooLongError(
                _("The prompt has {count} tokens, the context {limit}.").format(
                    count=len(ids), limit=self.context_length
                ),
                hint=None,
                prompt_tokens=len(ids),
                limit=self.context_length - 1,
                excess_characters=len(ids) - self.context_length + 1,
            )
        plan = PromptPlan(messages=(), dropped=0, prompt_tokens=len(ids), limit=self.context_length - 1)
        yield from self._stream(plan, ids, options, form, begun)

    def _begun(self, form: AnswerForm) -> list[int]:
        return self._tokenizer.encode(form.begun) if isinstance(form.begun, str) else list(form.begun)

    def _stream(
        self,
        plan: PromptPlan,
        prompt_ids: list[int],
        options: SamplingOptions,
        form: AnswerForm,
        begun: Sequence[int],
    ) -> Generator[Chunk, None, None]:
        options = options.with_seed()
        whole = self._tokenizer.complete_length(begun)
        before = prompt_ids[: len(prompt_ids) - len(begun)]
        yield Chunk(
            plan=plan,
            text="".join(self._tokenizer.detokenize(begun[:whole], prompt_ids=before)),
            tokens=tuple(map(Token, begun)),
        )
        answer = _Answer(
            self._model, self._tokenizer, [*before, *begun[:whole]], options, withheld=begun[whole:]
        )
        scores: list[AnswerScore] = []
        with self._advice(), closing(self._tokens(prompt_ids, options, form, begun, scores)) as tokens:
            yield from answer.stream(tokens)
        usage = Usage(
            prompt_tokens=len(prompt_ids),
            completion_tokens=answer.completion_tokens,
            cached_tokens=self._model.cached_tokens,
        )
        yield answer.last_chunk(usage, scores=tuple(scores))

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """How likely each of ``answers`` is; see :meth:`Engine.score
        <tanuki_cli.engines.base.Engine.score>`."""
        self._cancelled = False
        longest = max(len(self._tokenizer.encode(answer)) for answer in answers) + 1
        _plan, prompt_ids = self._plan(messages, SamplingOptions(max_new_tokens=longest))
        with self._advice():
            return self._scores(prompt_ids, answers, alternatives)

    def _tokens(
        self,
        prompt_ids: list[int],
        options: SamplingOptions,
        form: AnswerForm,
        begun: Sequence[int],
        scores: list[AnswerScore],
    ) -> Generator[Token, None, None]:
        """The tokens of the answer; before them ``scores`` is filled where it is wanted."""
        choices = form.shape.choices if form.shape is not None and not begun else ()
        if choices and (form.scores or options.greedy):
            scores += self._scores(prompt_ids, choices, form.logprobs)
        if choices and options.greedy:
            best = max(scores, key=lambda score: score.logprob)
            yield from best.tokens if form.logprobs else (Token(token.id) for token in best.tokens)
            return
        mask = self._mask(form.shape, begun) if form.shape is not None else None
        with closing(
            self._model.generate(prompt_ids, options, mask=mask, logprobs=form.logprobs)
        ) as generated:
            if self._cancelled:  # before the model ran: generate() has just forgotten it
                self._model.cancel()
            yield from generated

    def _scores(self, prompt_ids: list[int], answers: Sequence[str], alternatives: int) -> list[AnswerScore]:
        # Needs numpy, whose import takes longer than most chats ever need it.
        from tanuki_cli.engines.scoring import score_ids

        eos_id = self._tokenizer.eos_id
        scored = score_ids(
            self._model,
            prompt_ids,
            [[*self._tokenizer.encode(answer), eos_id] for answer in answers],
            alternatives=alternatives,
            is_cancelled=lambda: self._cancelled,
        )
        return [
            AnswerScore(text=answer, tokens=tokens) for answer, tokens in zip(answers, scored, strict=True)
        ]

    @contextmanager
    def _advice(self) -> Iterator[None]:
        """Say how to get a model again whose files turn out to be damaged."""
        try:
            yield
        except DamagedModelError as exc:
            exc.hint = exc.hint or self._get_again
            raise

    def _mask(self, shape: "Shape", begun: Sequence[int]) -> "LogitsMask":
        if self._guide is None:
            # Its import, and a look at every piece, are for those who ask for a shape.
            from tanuki_cli.engines.shapes.guidance import Guide

            self._guide = Guide(self._tokenizer)
        return self._guide.mask(shape, begun)

    def answerer(self, places: int | None = None) -> Answerer:
        """This engine for several jobs, one after another."""
        return OneByOne(self)

    def cancel(self) -> None:
        """Ask the running stream to stop; safe in a signal handler."""
        self._cancelled = True
        self._model.cancel()

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class _Answer:
    """One answer being generated: counts its tokens and learns why it ended.

    ``withheld`` are ids after ``prompt_ids`` that are there already, and only the beginning of a character.
    """

    def __init__(
        self,
        model: TokenModel,
        tokenizer: ChatTokenizer,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        withheld: Sequence[int] = (),
    ) -> None:
        self.completion_tokens = 0
        self.finish_reason: FinishReason = "length"
        self._unsent: list[Token] = []
        self._model = model
        self._tokenizer = tokenizer
        self._prompt_ids = prompt_ids
        self._options = options
        self._withheld = withheld

    def stream(self, tokens: Iterator[Token]) -> Iterator[Chunk]:
        """Turn tokens into text chunks until a stop rule, the length, the context or Ctrl-C ends them.

        What comes at once is one chunk: nothing of it is shown late, waiting for a slow step after it.
        """
        matcher = StopMatcher((OWN_STOP, *self._options.stop))
        held = ""
        try:
            for text in self._tokenizer.detokenize(self._visible(tokens), prompt_ids=self._prompt_ids):
                held += matcher.feed(text)
                if matcher.stopped:
                    self.finish_reason = "stop"
                    break
                if held and not self._model.next_is_ready:
                    yield self._chunk(held)
                    held = ""
        except EngineError:
            if held:
                yield self._chunk(held)
            raise
        if held := held + matcher.flush():
            yield self._chunk(held)

    def last_chunk(self, usage: Usage, *, scores: tuple[AnswerScore, ...]) -> Chunk:
        """The chunk that ends the stream, with the tokens that gave no text any more."""
        return replace(
            self._chunk(""),
            finish_reason=self.finish_reason,
            usage=usage,
            seed=self._options.seed,
            scores=scores,
        )

    def _chunk(self, text: str) -> Chunk:
        tokens, self._unsent = tuple(self._unsent), []
        return Chunk(text=text, token_count=len(tokens), tokens=tokens)

    def _visible(self, tokens: Iterator[Token]) -> Iterator[int]:
        yield from self._withheld
        try:
            for token in tokens:
                id_ = token.id
                self.completion_tokens += 1
                self._unsent.append(token)
                if id_ in self._tokenizer.end_ids:
                    self.finish_reason = "stop"
                    return
                if id_ >= self._tokenizer.vocab_size:
                    raise DamagedModelError(
                        _("The model produced the token {id}, which its tokenizer does not have.").format(
                            id=id_
                        )
                    )
                yield id_
                if self.completion_tokens >= self._options.max_new_tokens:
                    return
        except GenerationCancelled:
            self.finish_reason = "interrupted"

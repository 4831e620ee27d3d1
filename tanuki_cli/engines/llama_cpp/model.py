"""A TokenModel on llama.cpp: ids in, ids out, over the low-level interface."""

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.base import EngineInfo, GenerationCancelled
from tanuki_cli.engines.llama_cpp.cache import SequenceCache
from tanuki_cli.engines.llama_cpp.drafting import DraftPolicy, Guess, NgramIndex
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.kv_layout import StateLayout
from tanuki_cli.engines.llama_cpp.kv_store import KvStore
from tanuki_cli.engines.llama_cpp.native import KV_KINDS, Context, ContextParams, Model, NativeError
from tanuki_cli.engines.llama_cpp.picking import Picker
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:
    from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
    from tanuki_cli.engines.probabilities import Logits

_ROWS: Final = 128
"""Positions whose logits are kept at once: enough for full speed; 33 MB with Tanuki's vocabulary."""


class LlamaCppModel:
    """A loaded GGUF model with a KV cache for one conversation at a time.

    ``context`` may be shorter than ``context_length``: one of ``longest_params`` takes its place when
    a prompt and its answer may not fit. ``notes`` are sentences for the user about how it was loaded.
    ``speculative`` lets it check several guessed tokens in one batch, which changes the speed and
    nothing else: see :meth:`_advance`. ``next_is_ready`` as in TokenModel.

    Not for several threads at once, but :meth:`cancel` may come from a signal handler.
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        *,
        info: EngineInfo,
        facts: ModelFacts,
        context_length: int,
        longest_params: ContextParams,
        policy: DraftPolicy,
        notes: tuple[str, ...] = (),
        speculative: bool = True,
        gpu_layers: int = 0,
    ) -> None:
        self.info = info
        self.facts = facts
        self.context_length = context_length
        self.notes = notes
        self.speculative = speculative
        self.gpu_layers = gpu_layers
        self._model = model
        self._context = context
        self._longest_params = longest_params
        self._cache = SequenceCache(context, should_stop=lambda: self._cancelled)
        self._policy = policy
        self._text: NgramIndex | None = None  # of the newest answer, with its prompt
        self._cached_tokens = 0
        self._cancelled = False
        self._closed = False
        self._head_ids: list[int] = []
        self._head_is_new = False
        self._running: Generator[object, None, None] | None = None
        self.next_is_ready = False

    @property
    def cached_tokens(self) -> int:
        """How many prompt ids of the newest :meth:`generate` were in the KV cache already."""
        return self._cached_tokens

    def generate(
        self,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        mask: LogitsMask | None = None,
        logprobs: int = 0,
    ) -> Generator[Token, None, None]:
        """Yield the tokens that follow ``prompt_ids`` until closed or the context is full.

        ``mask`` and ``logprobs`` as in :meth:`TokenModel.generate
        <tanuki_cli.engines.token_model.TokenModel.generate>`. Ends an earlier generator of this model.

        Raises EngineError, and GenerationCancelled after :meth:`cancel`; ValueError for an empty prompt
        and after :meth:`close`.
        """
        if self._closed or not prompt_ids:
            raise ValueError("the model is closed" if self._closed else "the prompt is empty")
        self._end_running()
        running = self._running = self._generate(list(prompt_ids), options, mask, logprobs)
        return running

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> "Generator[Logits, None, None]":
        """Yield the logits after each of ``ids[first:]``; see :meth:`TokenModel.logits
        <tanuki_cli.engines.token_model.TokenModel.logits>`."""
        if self._closed or not 0 <= first < len(ids):
            raise ValueError("the model is closed" if self._closed else "first is none of the ids")
        self._end_running()
        running = self._running = self._logits(list(ids), first, reuse)
        return running

    def parallel(self, places: int | None = None, interactive: bool = False) -> "LlamaCppParallel":
        """The same weights with a cache for ``places`` requests at once, or for as many as fit and pay.

        ``interactive``: somebody reads each answer as it comes; see :class:`LlamaCppParallel`.

        This model is over then, and the weights are the other's. Raises EngineError where there is not
        the memory; then it goes on as before, or is over if it turned out only when it was taken.
        """
        # Most models answer one question at a time.
        from tanuki_cli.engines.llama_cpp.capacity import plan_capacity
        from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel

        self._end_running()
        capacity = plan_capacity(
            self.facts,
            self._longest_params,
            wanted=places,
            interactive=interactive,
            gpu_layers=self.gpu_layers,
            costs=self._policy.costs,
            has_streams=self._model.build.has_streams,
        )
        self.save_state()
        self._context.close()
        self._closed = True
        try:
            context = Context(self._model, capacity.params)
        except NativeError as exc:
            self._model.close()
            raise EngineError(
                _("There is not enough memory to answer {places} questions at once.").format(
                    places=capacity.params.n_sequences
                ),
                hint=_("Answer fewer at once, or use a shorter --context-length."),
            ) from exc
        return LlamaCppParallel(
            self._model,
            context,
            facts=self.facts,
            context_length=self.context_length,
            chunk=capacity.chunk,
            crowd=capacity.crowd,
        )

    def use_store(self, store: KvStore, key: str, *, head_ids: Sequence[int] = ()) -> None:
        """Take caches from ``store``, under ``key``, and keep them there at :meth:`close`.

        ``head_ids`` is what every new conversation begins with; its cache is kept as well.
        """
        params = self._longest_params
        layout = StateLayout(
            n_layer=self.facts.n_layer,
            width=self.facts.n_kv_head * self.facts.head_dim,
            kind=KV_KINDS[params.kv_type],
            transposed=not params.flash_attention,
            has_streams=self._model.build.has_streams,
        )
        self._cache.use_store(store, key, layout, longest=params.n_ctx)
        self._head_ids = list(head_ids)

    def save_state(self) -> bool:
        """Keep the cache of the conversation in the store; False where there is nothing new to keep.

        Takes about half a second per 2,000 tokens of an 8B model: call it when nobody waits.
        """
        return self._cache.save(head=len(self._head_ids))

    def cancel(self) -> None:
        """Make what runs raise GenerationCancelled soon; only sets a flag."""
        self._cancelled = True

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._running is not None:
            self._running.close()
        self.save_state()
        head = self._head_ids
        if self._head_is_new and self._cache.ids[: len(head)] == head:
            self._cache.save_head(len(head))
        self._context.close()
        self._model.close()

    def _generate(
        self, prompt_ids: list[int], options: SamplingOptions, mask: LogitsMask | None, logprobs: int
    ) -> Generator[Token, None, None]:
        if min(len(prompt_ids) + options.max_new_tokens, self.context_length) > self._context.length:
            self._widen()
        self._process_prompt(prompt_ids)
        self._policy.start(greedy=options.greedy)
        with Picker(
            self._cache,
            options,
            n_vocab=self.facts.n_vocab,
            prompt_ids=prompt_ids,
            mask=mask,
            logprobs=logprobs,
            last_text=self._text,
        ) as picker:
            self._text = picker.text
            token = self._next(picker)
            while token is not None:
                self.next_is_ready = False
                yield token
                picker.add(token.id)
                self._policy.see(token.id)
                token = yield from self._advance(token.id, picker)

    def _end_running(self) -> None:
        if self._running is not None:
            self._running.close()
        self._cancelled = False

    def _logits(self, ids: list[int], first: int, reuse: bool) -> "Generator[Logits, None, None]":
        # Needs numpy, whose import takes longer than most chats ever need it.
        from tanuki_cli.engines.llama_cpp.ties import as_array, stacked

        self._check_length(ids)
        rows = min(_ROWS, self._longest_params.n_batch)
        if len(ids) > self._context.length or rows > self._context.max_outputs:
            self._widen(outputs=rows)
        cache = self._cache
        if reuse:
            self._take_up(ids[:first], outputs=0)
        else:
            cache.forget_from(0)
        cache.compute_prompt(ids[:first], outputs=0)
        for start in range(first, len(ids), rows):
            part = ids[start : start + rows]
            cache.compute(part, outputs=len(part))
            outputs = range(len(part))
            for index in outputs:
                cache.require_numbers(index, self.facts.n_vocab)
            yield stacked([as_array(self._context.logits(index), self.facts.n_vocab) for index in outputs])

    def _widen(self, *, outputs: int = 0) -> None:
        """Take the longest context from now on, with room for the logits of so many ``outputs``; what the
        cache held comes from the store, if there is one, or is computed again."""
        self.save_state()
        if outputs > self._longest_params.max_outputs:
            self._longest_params = replace(self._longest_params, max_outputs=outputs)
        try:
            context = Context(self._model, self._longest_params)
        except NativeError as exc:
            raise EngineError(
                _("There is not enough memory for a context of {count} tokens.").format(
                    count=self.context_length
                ),
                hint=_("Use a shorter --context-length, or a smaller variant: tanuki models"),
            ) from exc
        self._context.close()
        self._context = context
        self._cache.move_to(context)

    def _process_prompt(self, prompt_ids: list[int]) -> None:
        """Bring the cache to ``prompt_ids`` and compute the logits of the last one."""
        self._check_length(prompt_ids)
        self._take_up(prompt_ids, outputs=1)
        cache, head = self._cache, self._head_ids
        self._cached_tokens = len(cache.ids)
        if head and not cache.ids and shared_prefix(head, prompt_ids[:-1]) == len(head):
            self._head_is_new = True
        cache.compute_prompt(prompt_ids, outputs=1)

    def _take_up(self, ids: list[int], *, outputs: int) -> None:
        """Bring the cache to as much of ``ids`` as is there or in the store; ``outputs`` are still wanted."""
        cache = self._cache
        cache.keep_what_goes(ids, head=len(self._head_ids))
        stored = cache.find_stored(ids)
        if stored is not None and not cache.fits(stored):
            with suppress(EngineError):  # then it is computed again
                self._widen()
        cache.reuse(ids, stored, outputs=outputs)

    def _check_length(self, ids: list[int]) -> None:
        if len(ids) > self.context_length:
            raise EngineError(
                _("The prompt has {count} tokens, the context {limit}.").format(
                    count=len(ids), limit=self.context_length
                ),
                hint=_("Use --context-length, or start a new chat."),
            )

    def _advance(self, id_: int, picker: Picker) -> Generator[Token, None, Token | None]:
        """Compute ``id_``, perhaps together with what must or may follow; yield what of that is right.

        Every position is sampled by the same sampler in the same order as without a draft, and a draft
        is kept only as far as it agrees. Returns the next token, still to be computed, or None if the
        context is full.
        """
        forced = picker.forced()
        if forced and (fitting := forced[: max(0, self._room - 1)]):
            yield from self._advance_forced(id_, fitting, picker)
            return self._next(picker)
        guess = picker.text.guess() if self.speculative else None
        draft: Sequence[int] = ()
        if guess is not None:
            draft = self._draft(guess, picker)
        if guess is None or not draft:
            if guess is not None:
                self._policy.watch(guess, picker.text)
            self._cache.step(id_)
            return self._next(picker)
        self._cache.compute_draft(id_, draft)
        for hits, drafted in enumerate(draft):
            token, settled = picker.pick(hits)
            if token.id != drafted or settled:
                self._policy.record_hits(guess, len(draft), hits)
                self._policy.record_settled(settled)
                self._cache.drop_draft()
                return token
            self._cache.confirm(token.id)
            picker.add(token.id)
            self.next_is_ready = True  # its logits are there
            yield token
            if self._cancelled:
                raise GenerationCancelled
        self._policy.record_hits(guess, len(draft), len(draft))
        return self._next(picker, len(draft))

    def _draft(self, guess: Guess, picker: Picker) -> Sequence[int]:
        """What is worth checking in one batch: as much as pays, and only what the mask allows."""
        room = min(self._room, self._context.max_outputs) - 1
        draft = picker.text.draft(guess, self._policy.choose(guess, room=room))
        agreed = picker.agreed(draft)
        return draft if agreed == len(draft) else draft[: self._policy.choose(guess, room=agreed)]

    def _advance_forced(
        self, id_: int, forced: Sequence[int], picker: Picker
    ) -> Generator[Token, None, None]:
        """Compute ``id_`` and what must follow it in as few steps as there can be, and yield the latter.

        Without log probabilities it is given away first, because nothing about it is to be learnt.
        """
        ids = (id_, *forced)
        if not picker.logprobs:
            for place, forced_id in enumerate(forced, start=1):
                picker.add(forced_id)
                self._policy.see(forced_id)
                self.next_is_ready = place < len(forced)
                yield picker.take_forced(forced_id)
            self._compute(ids, outputs=1)
            return
        for start in range(0, len(ids), self._context.max_outputs):
            part = ids[start : start + self._context.max_outputs]
            self._cache.compute(part, outputs=len(part))
            for index, forced_id in enumerate(forced[start : start + len(part)]):
                picker.add(forced_id)
                self._policy.see(forced_id)
                self.next_is_ready = index < len(part) - 1
                yield picker.take_forced(forced_id, index)

    def _compute(self, ids: Sequence[int], *, outputs: int) -> None:
        """Add ``ids`` in as few batches as there can be; the logits of the last ``outputs`` are kept."""
        size = self._context.n_batch
        for start in range(0, len(ids), size):
            is_last = start + size >= len(ids)
            self._cache.compute(ids[start : start + size], outputs=outputs if is_last else 0)

    def _next(self, picker: Picker, index: int = -1) -> Token | None:
        """The token after what was computed, from output ``index``; None if the context is full."""
        if not self._room:
            return None
        token, settled = picker.pick(index)
        self._policy.record_settled(settled)
        return token

    @property
    def _room(self) -> int:
        return min(self.context_length, self._context.length) - len(self._cache.ids)

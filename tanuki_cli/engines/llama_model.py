"""A TokenModel on llama.cpp: ids in, ids out, over the low-level interface.

The KV cache begins with exactly the ids in ``_cached_ids``, whatever happened before: an id is
remembered only after it was computed. (After it there may be drafted ids that were never confirmed.)
The next prompt keeps the longest common prefix and the rest is forgotten, so nothing is computed
twice, and nothing is known to the engine alone.
"""

import time
from collections.abc import Generator, Sequence
from typing import Final

from tanuki_cli.engines.base import EngineInfo, GenerationCancelled
from tanuki_cli.engines.drafting import DraftPolicy, NgramIndex
from tanuki_cli.engines.kv_store import KvStore, shared_prefix
from tanuki_cli.engines.llama_facts import ModelFacts
from tanuki_cli.engines.llama_native import Context, DecodeAborted, Model, NativeError
from tanuki_cli.engines.llama_sampling import Sampler
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions

_SLOW_STEP_S: Final = 0.25
"""Steps longer than this ask for Ctrl-C while they run; asking costs up to a millisecond a step."""
_MIN_GAIN: Final = 8
"""A stored cache must save this many ids more than the one at hand: reading it takes time too."""


class LlamaCppModel:
    """A loaded GGUF model with a KV cache for one conversation at a time.

    ``notes`` are sentences for the user about how it was loaded. ``speculative`` lets it check several
    guessed tokens in one batch. It is off: in float32 the answers are the same, but with quantised
    weights llama.cpp rounds by batch size, which changed greedy answers in a near tie.

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
        notes: tuple[str, ...] = (),
        gpu: bool = False,
        speculative: bool = False,
    ) -> None:
        self.info = info
        self.facts = facts
        self.context_length = context_length
        self.notes = notes
        self.speculative = speculative
        self._model = model
        self._context = context
        self._cached_ids: list[int] = []
        self._cached_tokens = 0
        self._cancelled = False
        self._closed = False
        self._steps_are_slow = False
        self._store: KvStore | None = None
        self._key = ""
        self._head_ids: list[int] = []
        self._stored_ids: list[int] = []
        self._policy = DraftPolicy(gpu=gpu)
        self._running: Generator[int, None, None] | None = None

    @property
    def cached_tokens(self) -> int:
        """How many prompt ids of the newest :meth:`generate` were in the KV cache already."""
        return self._cached_tokens

    def generate(self, prompt_ids: Sequence[int], options: SamplingOptions) -> Generator[int, None, None]:
        """Yield the ids that follow ``prompt_ids`` until closed or the context is full.

        Ends an earlier generator of this model. Raises EngineError, and GenerationCancelled after
        :meth:`cancel`; ValueError for an empty prompt and after :meth:`close`.
        """
        if self._closed or not prompt_ids:
            raise ValueError("the model is closed" if self._closed else "the prompt is empty")
        if self._running is not None:
            self._running.close()
        self._cancelled = False
        self._running = self._generate(list(prompt_ids), options)
        return self._running

    def use_store(self, store: KvStore, key: str, *, head_ids: Sequence[int] = ()) -> None:
        """Take caches from ``store``, under ``key``, and keep them there at :meth:`close`.

        ``head_ids`` is what every new conversation begins with; its cache is stored at the first use.
        """
        self._store, self._key, self._head_ids = store, key, list(head_ids)

    def save_state(self) -> bool:
        """Keep the cache of the conversation in the store; False where there is nothing new to keep.

        Takes about half a second per 2,000 tokens of an 8B model: call it when nobody waits.
        """
        ids = self._cached_ids
        if self._store is None or not ids or ids == self._stored_ids[: len(ids)]:
            return False
        self._forget_from(len(ids))
        self._stored_ids = list(ids)
        return self._store.save(
            self._key,
            ids,
            lambda path: self._context.save_state(path, ids),
            nbytes=self._context.state_bytes(ids),
            head=len(self._head_ids),
        )

    def cancel(self) -> None:
        """Make the running :meth:`generate` raise GenerationCancelled soon; only sets a flag."""
        self._cancelled = True

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._running is not None:
            self._running.close()
        self.save_state()
        self._context.close()
        self._model.close()

    def _generate(self, prompt_ids: list[int], options: SamplingOptions) -> Generator[int, None, None]:
        self._process_prompt(prompt_ids)
        text = NgramIndex(prompt_ids)
        with Sampler(options, n_vocab=self.facts.n_vocab, prompt_ids=prompt_ids) as sampler:
            next_id = sampler.sample(self._context) if self._room else None
            while next_id is not None:
                yield next_id
                text.append(next_id)
                next_id = yield from self._advance(next_id, text, sampler)

    def _process_prompt(self, prompt_ids: list[int]) -> None:
        """Bring the cache to ``prompt_ids`` and compute the logits of the last one."""
        if len(prompt_ids) > self.context_length:
            raise EngineError(
                _("The prompt has {count} tokens, the context {limit}.").format(
                    count=len(prompt_ids), limit=self.context_length
                ),
                hint=_("Use --context-length, or start a new chat."),
            )
        self._reuse(prompt_ids)
        head = self._head_ids
        if head and not self._cached_ids and shared_prefix(head, prompt_ids[:-1]) == len(head):
            self._decode(head, outputs=0, stoppable=True)
            self.save_state()
        size = self._context.n_batch
        for start in range(len(self._cached_ids), len(prompt_ids), size):
            batch = prompt_ids[start : start + size]
            is_last = start + size >= len(prompt_ids)
            self._decode(batch, outputs=1 if is_last else 0, stoppable=True)
        if not self._context.has_finite_logits():
            self._forget_from(0)
            raise EngineError(
                _("The model computes no numbers: its file is damaged."),
                hint=_("Get it again: tanuki pull --verify"),
            )

    def _reuse(self, prompt_ids: list[int]) -> None:
        """Keep of the cache what ``prompt_ids`` begin with; take a stored one if that has much more."""
        # The last id is always computed: its logits are not kept.
        reusable = prompt_ids[:-1]
        kept = shared_prefix(self._cached_ids, reusable)
        if self._store is not None:
            limit = self.context_length
            path = self._store.find(self._key, reusable, more_than=kept + _MIN_GAIN, max_ids=limit)
            if path is not None:
                self._cached_ids = self._context.load_state(path, max_ids=limit)
                self._stored_ids = list(self._cached_ids)
                kept = shared_prefix(self._cached_ids, reusable)
        self._forget_from(kept)
        self._cached_tokens = len(self._cached_ids)

    def _advance(self, id_: int, text: NgramIndex, sampler: Sampler) -> Generator[int, None, int | None]:
        """Compute ``id_`` together with a draft of what may follow, and yield what of that is right.

        Every position is sampled by the same sampler in the same order as without a draft, so the
        answer is the same; a draft only saves steps. Returns the next id, still to be computed, or
        None if the context is full.
        """
        self._stop_if_cancelled()
        guess = text.guess() if self.speculative else None
        length = self._policy.choose(guess, room=min(self._room - 1, self._context.max_outputs - 1))
        draft = text.draft(guess, length) if guess and length else []
        self._compute([id_, *draft])
        hits = 0
        for index, drafted in enumerate(draft):
            sampled = sampler.sample(self._context, index)
            if sampled != drafted:
                break
            hits += 1
            self._cached_ids.append(sampled)
            text.append(sampled)
            yield sampled
            self._stop_if_cancelled()
        if guess and draft:
            self._policy.record_hits(guess, len(draft), hits)
        if hits < len(draft):
            self._forget_from(len(self._cached_ids))
            return sampled
        return sampler.sample(self._context, len(draft)) if self._room else None

    def _compute(self, ids: Sequence[int]) -> None:
        """Compute a sampled id and the draft after it, of which the cache's record knows nothing yet."""
        started = time.perf_counter()
        self._decode(ids, outputs=len(ids), stoppable=len(ids) > 1 or self._steps_are_slow)
        seconds = time.perf_counter() - started
        self._policy.record_time(len(ids), seconds)
        if len(ids) == 1:
            self._steps_are_slow = seconds > _SLOW_STEP_S
        else:
            del self._cached_ids[1 - len(ids) :]
        self._stop_if_cancelled()

    @property
    def _room(self) -> int:
        return self.context_length - len(self._cached_ids)

    def _decode(self, ids: Sequence[int], *, outputs: int, stoppable: bool) -> None:
        """Compute ``ids`` after the cached ones; whatever goes wrong, cache and record stay equal."""
        self._stop_if_cancelled()
        position = len(self._cached_ids)
        should_stop = self._is_cancelled if stoppable else None
        complete = False
        try:
            self._context.decode(ids, position, outputs=outputs, should_stop=should_stop)
            complete = True
        except DecodeAborted as exc:
            raise GenerationCancelled from exc
        except NativeError as exc:
            raise EngineError(
                _("llama.cpp failed while computing: {reason}").format(reason=exc),
                hint=_("Try again; if it stays, use --debug and report it."),
            ) from exc
        finally:
            if complete:
                self._cached_ids.extend(ids)
            else:
                self._forget_from(position)

    def _is_cancelled(self) -> bool:
        return self._cancelled

    def _stop_if_cancelled(self) -> None:
        if self._cancelled:
            raise GenerationCancelled

    def _forget_from(self, length: int) -> None:
        if not self._context.trim(length):
            length = 0
        del self._cached_ids[length:]

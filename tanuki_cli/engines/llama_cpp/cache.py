"""The KV cache of one conversation on llama.cpp, and a true record of what is in it.

The cache begins with exactly the ids in :attr:`SequenceCache.ids`, whatever happened before: an id is
recorded only after it was computed. (After it there may be drafted ids that were never confirmed.) The
next prompt keeps the longest common prefix and the rest is forgotten, so nothing is computed twice, and
nothing is known to the engine alone.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.faults import no_numbers
from tanuki_cli.engines.llama_cpp.cutting import chunk_size, reusable
from tanuki_cli.engines.llama_cpp.kv_layout import StateLayout
from tanuki_cli.engines.llama_cpp.kv_store import KvStore, state_length
from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted, NativeError
from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.i18n import _

_SLOW_STEP_S: Final = 0.25
"""Steps longer than this ask for Ctrl-C while they run; asking costs up to a millisecond a step."""
_MIN_GAIN: Final = 8
"""A stored cache must save this many ids more than the one at hand: reading it takes time too."""
_WORTH_KEEPING: Final = 256
"""So many ids are kept before they are forgotten for another text: computing them takes seconds on a CPU."""


class SequenceCache:
    """What ``context`` has computed of one ``sequence``. ``should_stop`` is asked while it computes.

    llama.cpp rounds a little differently in batches of different sizes. Ids that were computed together
    with a draft are therefore *loose*: nearly, but not to the last bit, what single steps give.
    :meth:`settle` computes them again as if nothing had been drafted.

    Every method that computes raises EngineError, and GenerationCancelled when it was stopped.
    """

    def __init__(self, context: Context, *, should_stop: Callable[[], bool], sequence: int = 0) -> None:
        self.ids: list[int] = []
        self.context = context
        self._should_stop = should_stop
        self._sequence = sequence
        self._loose_steps: list[int] = []  # sizes, in ids, of the steps that would have been taken
        self._steps_are_slow = False
        self._store: KvStore | None = None
        self._key = ""
        self._layout: StateLayout | None = None
        self._longest = 0
        self._stored_ids: list[int] = []

    @property
    def settled(self) -> bool:
        """Whether all of it is what it would be without drafts, to the last bit."""
        return not self._loose_steps

    def compute(self, ids: Sequence[int], *, outputs: int) -> None:
        """Add a part of a prompt; the logits of its last ``outputs`` positions are kept."""
        self._decode(ids, outputs=outputs, stoppable=True)

    def step(self, id_: int) -> None:
        """Add one id and keep its logits."""
        started = time.perf_counter()
        self._decode((id_,), outputs=1, stoppable=self._steps_are_slow)
        self._steps_are_slow = time.perf_counter() - started > _SLOW_STEP_S

    def compute_draft(self, id_: int, draft: Sequence[int]) -> None:
        """Add ``id_``, and compute ``draft`` after it without recording it; all logits are kept.

        Then comes :meth:`confirm` for every id of it that was right, in order, and :meth:`drop_draft`.
        """
        self._decode((id_, *draft), outputs=1 + len(draft), stoppable=True, drafted=len(draft))

    def confirm(self, id_: int) -> None:
        """Record the next id of the newest draft."""
        self._record((id_,), loose=True)

    def drop_draft(self) -> None:
        """Forget what was drafted and not confirmed."""
        self.forget_from(len(self.ids))

    def settle(self) -> int:
        """Compute the loose ids again, in the steps that would have been taken without drafts; how many.

        The logits of the last one are kept. If it is stopped half-way, the ids not yet computed again
        are gone from the cache.
        """
        steps, self._loose_steps = self._loose_steps, []
        start = len(self.ids) - sum(steps)
        loose = self.ids[start:]
        self.forget_from(start)
        for size in steps:
            part, loose = loose[:size], loose[size:]
            self.compute(part, outputs=0 if loose else 1)
        return sum(steps)

    def forget_from(self, length: int) -> None:
        """Keep the first ``length`` ids; none where llama.cpp cannot cut there."""
        if not self.context.trim(length, sequence=self._sequence):
            length = 0
        excess = len(self.ids) - length
        while excess > 0 and self._loose_steps:
            cut = min(excess, self._loose_steps[-1])
            self._loose_steps[-1] -= cut
            if not self._loose_steps[-1]:
                self._loose_steps.pop()
            excess -= cut
        del self.ids[length:]

    def require_numbers(self, output: int, count: int) -> None:
        """Raise EngineError, and forget everything, unless the ``count`` logits of ``output`` are numbers."""
        if not self.context.has_finite_logits(output, count):
            self.context.forget(self._sequence)  # or it would spread from the places that are free then
            self.ids, self._loose_steps = [], []
            raise no_numbers()

    def use_store(self, store: KvStore, key: str, layout: StateLayout, *, longest: int) -> None:
        """Take caches from ``store``, under ``key``, and keep them there with :meth:`save`.

        ``layout`` is that of this context's states, ``longest`` how many ids the longest context holds that
        may take its place.
        """
        self._store, self._key, self._layout, self._longest = store, key, layout, longest

    def move_to(self, context: Context) -> None:
        """Go on in another, empty context."""
        self.context = context
        self.ids, self._loose_steps = [], []

    def find_stored(self, ids: Sequence[int]) -> Path | None:
        """A stored cache that has so much more of ``ids`` that reading it pays.

        It may be longer than this context; see :meth:`fits`.
        """
        if self._store is None:
            return None
        more_than = shared_prefix(self.ids, ids) + _MIN_GAIN
        return self._store.find(self._key, ids, more_than=more_than, fits=self._fits, max_ids=self._longest)

    def fits(self, stored: Path) -> bool:
        """Whether this context is long enough for ``stored``."""
        return state_length(stored) <= self.context.length

    def reuse(self, ids: Sequence[int], stored: Path | None, *, outputs: int) -> None:
        """Keep what ``ids`` begin with, out of ``stored`` if it is given and fits.

        So much of them is left to compute, at least, that it gives the same numbers as all of them at once;
        nothing where all of them are there and no ``outputs`` are wanted.
        """
        if stored is not None and self.fits(stored):
            self._loose_steps = []
            self.ids = self.context.load_state(stored, max_ids=self.context.length, sequence=self._sequence)
            self._stored_ids = list(self.ids)
        shared = shared_prefix(self.ids, ids)
        is_whole = shared == len(ids) and not outputs
        self.forget_from(shared if is_whole else reusable(shared, len(ids), n_batch=self.context.n_batch))

    def compute_prompt(self, ids: Sequence[int], *, outputs: int) -> None:
        """Compute what is missing of ``ids`` after :meth:`reuse`; the last ``outputs`` logits are kept."""
        while (done := len(self.ids)) < len(ids):
            n_batch = self.context.n_batch
            end = done + chunk_size(done, len(ids), n_batch=n_batch, most=n_batch)
            self.compute(ids[done:end], outputs=outputs if end == len(ids) else 0)

    def keep_what_goes(self, ids: Sequence[int], *, head: int) -> None:
        """Keep the cache in the store, as :meth:`save` does, if ``ids`` are another, and it a long text."""
        shared = shared_prefix(self.ids, ids)
        if len(self.ids) - shared >= max(_WORTH_KEEPING, shared):
            self.save(head=head)

    def save(self, *, head: int) -> bool:
        """Keep the cache in the store, and one of its first ``head`` ids beside it.

        False where there is nothing new to keep. Takes about half a second per 2,000 tokens of an 8B
        model.
        """
        ids = self.ids
        if self._store is None or not ids or ids == self._stored_ids[: len(ids)]:
            return False
        self.drop_draft()
        self._stored_ids = list(ids)
        return self._write(head)

    def save_head(self, head: int) -> bool:
        """Cut the cache down to its first ``head`` ids and keep that in the store."""
        self.forget_from(head)
        return self._write(head)

    def _write(self, head: int) -> bool:
        ids = list(self.ids)
        if self._store is None or not ids:
            return False
        return self._store.save(
            self._key,
            ids,
            lambda path: self.context.save_state(path, ids, sequence=self._sequence),
            nbytes=self.context.state_bytes(ids, sequence=self._sequence),
            fits=self._fits,
            head=head,
        )

    def _fits(self, path: Path) -> bool:
        return self._layout is not None and self._layout.fits(path, max_ids=self._longest)

    def _record(self, ids: Sequence[int], *, loose: bool) -> None:
        self.ids.extend(ids)
        if loose:
            self._loose_steps.append(len(ids))

    def _decode(self, ids: Sequence[int], *, outputs: int, stoppable: bool, drafted: int = 0) -> None:
        """Compute ``ids`` after the recorded ones and record all but the last ``drafted``.

        Whatever goes wrong, cache and record stay equal.
        """
        if self._should_stop():
            raise GenerationCancelled
        position = len(self.ids)
        complete = False
        try:
            should_stop = self._should_stop if stoppable else None
            self.context.decode(
                ids, position, sequence=self._sequence, outputs=outputs, should_stop=should_stop
            )
            complete = True
        except DecodeAborted as exc:
            raise GenerationCancelled from exc
        except NativeError as exc:
            raise computing_failed(exc) from exc
        finally:
            if not complete:
                self.forget_from(position)
        self._record(ids[:-drafted] if drafted else ids, loose=drafted > 0 or not self.settled)
        if self._should_stop():
            raise GenerationCancelled


def computing_failed(error: NativeError) -> EngineError:
    """What a user is told of ``error``, which ended a computation."""
    return EngineError(
        _("llama.cpp failed while computing: {reason}").format(reason=brief(error)),
        hint=_("Try again; if it stays, use --debug and report it."),
    )

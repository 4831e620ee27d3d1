"""A ParallelModel on llama.cpp: several answers in one KV cache, one decode a step for all of them.

A step computes the newest id of every answer, and with them a chunk of the prompts that are still to be
read: small enough that answers go on while a long prompt is read. What a prompt begins with is copied from
any sequence that has it, running or ended, and a prompt waits while another one computes what both begin
with. Which ids a step takes depends on the requests and their order alone, never on a clock.

The ids of a request and its sampler are all of its state; the cache only saves work. So a request can lose
its cells at any time, to older ones when they run out, and is computed again later: it gives the same
tokens, as far as rounding allows. The numbers of one position change a little with what else is in the
batch and with where its sequence lies in the cache:

- The same requests, added in the same order to a new model, give the same tokens again.
- One request alone in a new model gets the tokens that :class:`LlamaCppModel` gives it without drafts.
- In other company a greedy answer parts from that only where the two best tokens are a near tie (see
  ties.py), a sampled one only where the draw falls so near a border between two tokens. From there on it is
  another answer, as good.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Final

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.base import GenerationCancelled, Outcome, Request
from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.native import Context, Model
from tanuki_cli.engines.llama_cpp.places import Answering, Places
from tanuki_cli.engines.llama_cpp.shared_cache import Part, SharedCache
from tanuki_cli.errors import DamagedModelError, EngineError
from tanuki_cli.i18n import _

if TYPE_CHECKING:
    from tanuki_cli.engines.probabilities import Logits

SPARE_OUTPUTS: Final = 32
"""Positions of a step whose logits are kept, beside one for every place."""


class LlamaCppParallel:
    """Implements :class:`~tanuki_cli.engines.base.ParallelModel` with ``places`` sequences of ``context``.

    ``chunk`` is how many ids of prompts a step takes while there are answers that wait for it. Frees
    ``context`` and ``weights`` in the end.
    """

    def __init__(
        self,
        weights: Model,
        context: Context,
        *,
        places: int,
        facts: ModelFacts,
        context_length: int,
        chunk: int,
    ) -> None:
        self.places = places
        self.context_length = context_length
        self._weights = weights
        self._context = context
        self._n_vocab = facts.n_vocab
        self._chunk = chunk
        self._cancelled = False
        self._closed = False
        self._cache = SharedCache(context, places, should_stop=lambda: self._cancelled)
        self._places = Places(self._cache, places)
        self._known: dict[Request, Answering] = {}
        self._suspects: list[Answering] = []

    def add(self, request: Request) -> None:
        """Take ``request``; see :meth:`ParallelModel.add <tanuki_cli.engines.base.ParallelModel.add>`."""
        prompt_ids = list(request.prompt_ids)
        if not 0 < len(prompt_ids) <= self.context_length:
            raise ValueError("the prompt is empty, or longer than the context")
        chooser = Chooser(
            request.options,
            n_vocab=self._n_vocab,
            prompt_ids=prompt_ids,
            mask=request.mask,
            logprobs=request.logprobs,
        )
        self._known[request] = answering = Answering(request, chooser, prompt_ids)
        self._places.add(answering)

    def step(self) -> list[Outcome]:
        """Compute once for all requests; see :meth:`ParallelModel.step
        <tanuki_cli.engines.base.ParallelModel.step>`."""
        outcomes = [self._end(answering) for answering in self._full()]
        if not self._suspects:
            self._places.fill()
        parts = self._compose()
        while put_back := self._places.make_room(sum(len(part.ids) for part in parts.values())):
            parts.pop(put_back, None)
            self._suspects = [suspect for suspect in self._suspects if suspect is not put_back]
        if not parts:
            return outcomes
        try:
            firsts = self._cache.compute(list(parts.values()))
        except GenerationCancelled:
            self._cancelled = False
            raise
        damaged = []
        for (answering, part), first in zip(parts.items(), firsts, strict=True):
            if all(
                self._context.has_finite_logits(first + index, self._n_vocab) for index in range(part.outputs)
            ):
                outcomes += self._taken(answering, part, first)
            else:
                damaged.append(answering)
        if damaged:
            outcomes += self._isolate(damaged)
        elif self._suspects and self._suspects[0] in parts and self._missing(self._suspects[0]) <= 1:
            del self._suspects[0]
        return outcomes

    def drop(self, request: Request) -> None:
        """Forget ``request``, which may be gone already; what is computed of it may serve others."""
        answering = self._known.pop(request, None)
        if answering is None:
            return
        answering.chooser.close()
        self._places.remove(answering)
        if answering in self._suspects:
            self._suspects.remove(answering)

    def cached_tokens(self, request: Request) -> int:
        """How many of its prompt ids were in the cache already."""
        answering = self._known.get(request)
        return answering.cached_tokens or 0 if answering is not None else 0

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> "Generator[Logits, None, None]":
        """Yield the logits after each of ``ids[first:]``; see :meth:`TokenModel.logits
        <tanuki_cli.engines.base.TokenModel.logits>`. All requests wait until it ends."""
        # Needs numpy, whose import takes longer than most answers ever need it.
        from tanuki_cli.engines.llama_cpp.ties import as_array, stacked

        if not 0 <= first < len(ids) <= self.context_length:
            raise ValueError("first is none of the ids, or they are too many")
        ids = list(ids)
        with self._places.borrowed(ids[:first] if reuse else []) as sequence:
            while (done := self._cache.length(sequence)) < len(ids):
                outputs = done >= first
                size = self._context.max_outputs if outputs else min(self._context.n_batch, first - done)
                part = Part(sequence, ids[done : done + size], 0)
                if outputs:
                    part = part._replace(outputs=len(part.ids))
                start = self._compute_alone(part)
                rows = range(start, start + part.outputs)
                if not all(self._context.has_finite_logits(row, self._n_vocab) for row in rows):
                    self._cache.clear()
                    raise _no_numbers()
                if rows:
                    yield stacked([as_array(self._context.logits(row), self._n_vocab) for row in rows])

    def cancel(self) -> None:
        """Make what runs, or runs next, raise GenerationCancelled soon; only sets a flag."""
        self._cancelled = True

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for request in list(self._known):
            self.drop(request)
        self._cache.close()
        self._weights.close()

    def _full(self) -> list[Answering]:
        """Those whose context is full, and nothing is to be said any more about what is there."""
        return [
            answering
            for answering in self._known.values()
            if len(answering.text) >= self.context_length and not answering.awaited
        ]

    def _end(self, answering: Answering, error: EngineError | None = None) -> Outcome:
        self.drop(answering.request)
        return Outcome(answering.request, error=error)

    def _missing(self, answering: Answering) -> int:
        """How many of its ids are still to be computed; the very last one of a full context never is."""
        length = min(len(answering.text), self.context_length - 1)
        return length - self._cache.length(answering.sequence)

    def _compose(self) -> dict[Answering, Part]:
        """What the next step computes of whom."""
        parts: dict[Answering, Part] = {}
        reading: list[tuple[int, Answering]] = []
        for answering in self._suspects[:1] or self._places.running:
            missing = self._missing(answering)
            if missing == 1:
                parts[answering] = Part(answering.sequence, answering.text[-1:], 1)
            else:
                reading.append((missing, answering))
        if not reading:
            return parts
        budget = self._context.n_batch - len(parts)
        if parts:
            budget = min(budget, self._chunk)
        outputs = self._context.max_outputs - len(parts)
        # The shortest first: what they leave of their share is for the longer ones.
        reading.sort(key=lambda entry: entry[0])
        for place, (missing, answering) in enumerate(reading):
            size = min(missing, max(1, budget // (len(reading) - place)), budget)
            part = self._part(answering, size, outputs)
            if part.ids:
                parts[answering] = part
                budget -= len(part.ids)
                outputs -= part.outputs
        return parts

    def _part(self, answering: Answering, size: int, most_outputs: int) -> Part:
        """The next ``size`` ids, or fewer where they would give more outputs than there may be."""
        text, done = answering.text, self._cache.length(answering.sequence)
        first_output = len(text) - 1 - answering.awaited
        outputs = max(0, done + size - first_output)
        excess = max(0, outputs - most_outputs)
        size -= excess
        return Part(answering.sequence, text[done : done + size], min(outputs - excess, size))

    def _taken(self, answering: Answering, part: Part, first: int) -> list[Outcome]:
        """What follows from the outputs of ``part``, which begin at ``first``."""
        if not part.outputs:
            return []
        request, text = answering.request, answering.text
        place = self._cache.length(part.sequence) - part.outputs + 1
        tokens: list[Token] = []
        try:
            for index in range(first, first + part.outputs):
                if place < len(text):
                    tokens.append(answering.chooser.take_forced(self._context, text[place], index))
                    answering.chooser.answer.append(text[place])
                    answering.awaited -= 1
                else:
                    tokens += self._chosen(answering, index)
                place += 1
        except EngineError as error:
            return [*(Outcome(request, token) for token in tokens), self._end(answering, error)]
        return [Outcome(request, token) for token in tokens]

    def _chosen(self, answering: Answering, index: int) -> list[Token]:
        """The next token, out of the logits at ``index``, and those that must follow it.

        With log probabilities these wait until their logits are there.
        """
        chooser, context = answering.chooser, self._context
        forced = chooser.forced()
        if forced:
            token = chooser.take_forced(context, forced[0], index)
        else:
            token = chooser.choose(context, index, chooser.allowed())
        answering.text.append(token.id)
        chooser.answer.append(token.id)
        if chooser.mask is None:
            return [token]
        following = chooser.forced()[: self.context_length - len(answering.text)]
        answering.text += following
        if chooser.logprobs:
            answering.awaited = len(following)
            return [token]
        chooser.answer += following
        return [token, *(chooser.take_forced(context, id_, index) for id_ in following)]

    def _isolate(self, damaged: Sequence[Answering]) -> list[Outcome]:
        """Find who has ids that give no numbers: in the cache these spread to all others.

        Everything is computed again, one request after another, beside those that are found innocent.
        """
        outcomes = []
        if self._suspects or len(self._places.running) == 1:
            outcomes = [self._end(answering, _no_numbers()) for answering in damaged]
        else:
            self._suspects = list(self._places.running)
        self._cache.clear()
        return outcomes

    def _compute_alone(self, part: Part) -> int:
        while self._places.make_room(len(part.ids)):
            pass
        try:
            return self._cache.compute([part])[0]
        except GenerationCancelled:
            self._cancelled = False
            raise


def _no_numbers() -> DamagedModelError:
    return DamagedModelError(_("The model computes no numbers: its file is damaged."))

"""A ParallelModel on llama.cpp: several answers in one context.

One computation a step gives every answer its next token. Where somebody reads along, a second one reads a
chunk of the oldest prompt, or by turns of the shortest: small enough that answers go on while a long prompt
is read. Where only the time of all counts, answers wait until the prompts are read, several of these in one
computation: a step costs each answer the less the more there are in it. What a prompt begins with is copied
from any sequence that has it, running or ended, and a prompt waits while another one computes what both begin
with.

Every request has a sequence with room for as many ids as a context holds: nobody has to wait, or to be
computed again, because others grew. With llama.cpp each has places of its own. (One cache for all would take
less memory, but the numbers of a position then depend on what else is in it: of 32 answers of the practice
model in company, at temperature 1, 26 were the same as alone, and of 32 with a cache each, 32. It was slower,
too.) Other libraries know only such a shared cache: see :class:`~tanuki_cli.engines.llama_cpp.builds.Build`.

Damaged weights may give a request no numbers. In a shared cache these spread to all others, and in any cache
they may come from what was there before. So a request is ended for them only if it was computed by itself, in
an empty cache.

The ids of a request and its sampler are all of its state, and the cache only saves work. What is promised:

- The same requests, added in the same order to a new model, get the same tokens: no clock decides anything.
- Alone, a request gets the tokens that :class:`LlamaCppModel` gives it without drafts.
- In company, too, as far as sequences have places of their own, and the kernels give the same numbers for
  one id as for several of different sequences. llama.cpp's do on a CPU with AVX2, to the last bit: with
  weights of 8 bits always, with those of 4 to 6 bits for up to 6 at once. Elsewhere a greedy answer parts
  only where the two best tokens are a near tie (see ties.py), a sampled one where the draw falls next to a
  border between two tokens, and each goes on as good.
- A prompt that goes on from an earlier answer keeps that answer's numbers, which were computed id by id.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.faults import no_numbers
from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.native import Context, Model
from tanuki_cli.engines.llama_cpp.parts import Answering, Parts
from tanuki_cli.engines.llama_cpp.places import Crowd, Places
from tanuki_cli.engines.llama_cpp.sequences import Part, Sequences
from tanuki_cli.engines.token_model import Outcome, Request
from tanuki_cli.errors import EngineError

if TYPE_CHECKING:
    from tanuki_cli.engines.probabilities import Logits

_Share = tuple[Answering, Part]
SPARE_OUTPUTS: Final = 32
"""Positions of a step whose logits are kept, beside one for every place."""


class LlamaCppParallel:
    """Implements :class:`~tanuki_cli.engines.token_model.ParallelModel`: a sequence of ``context`` a place.

    ``chunk`` is how many ids of prompts a step takes while there are answers that wait for it; None where
    prompts come first. ``crowd`` as in Places. Frees ``context`` and ``weights`` in the end.
    """

    def __init__(
        self,
        weights: Model,
        context: Context,
        *,
        facts: ModelFacts,
        context_length: int,
        chunk: int | None,
        crowd: Crowd | None = None,
    ) -> None:
        self.places = context.n_sequences
        self.context_length = context_length
        self._weights = weights
        self._context = context
        self._n_vocab = facts.n_vocab
        self._chunk = chunk
        self._cancelled = False
        self._closed = False
        self._sequences = Sequences(context, self.places, should_stop=lambda: self._cancelled)
        self._places = Places(self._sequences, n_batch=context.n_batch, crowd=crowd)
        self._suspect: Answering | None = None
        self._parts = Parts(self._sequences, context_length=context_length)
        self._known: dict[Request, Answering] = {}
        self._outcomes: list[Outcome] = []  # what a step brought before it was stopped
        self._turn = 0

    def add(self, request: Request) -> None:
        """Take ``request``: :meth:`ParallelModel.add <tanuki_cli.engines.token_model.ParallelModel.add>`."""
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
        <tanuki_cli.engines.token_model.ParallelModel.step>`."""
        for answering in self._full():
            self._end(answering)
        self._places.fill()
        try:
            for parts in self._computations(self._to_compute()):
                if not self._compute(parts):
                    break  # what was to follow is not there any more
        except GenerationCancelled:
            self._cancelled = False
            raise
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def drop(self, request: Request) -> None:
        """Forget ``request``, which may be gone already; what is computed of it may serve others."""
        answering = self._known.pop(request, None)
        if answering is None:
            return
        answering.chooser.close()
        self._places.remove(answering)
        self._outcomes = [outcome for outcome in self._outcomes if outcome.request is not request]

    def cached_tokens(self, request: Request) -> int:
        """How many of its prompt ids were in the cache already."""
        return self._known[request].cached_tokens

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> "Generator[Logits, None, None]":
        """Yield the logits after each of ``ids[first:]``; see :meth:`TokenModel.logits
        <tanuki_cli.engines.token_model.TokenModel.logits>`. All requests wait until it ends."""
        # Needs numpy, whose import takes longer than most answers ever need it.
        from tanuki_cli.engines.llama_cpp.ties import as_array, stacked

        if not 0 <= first < len(ids) <= self.context_length:
            raise ValueError("first is none of the ids, or they are too many")
        ids, doubted = list(ids), False
        most_rows = min(self._context.max_outputs, self._context.n_batch)
        try:
            with self._places.borrowed(ids[:first] if reuse else []) as sequence:
                while (done := self._sequences.length(sequence)) < len(ids):
                    most = most_rows if done >= first else self._context.n_batch
                    end = min(done + most, len(ids) if done >= first else first)
                    part = Part(sequence, ids[done:end], end - done if done >= first else 0)
                    start = self._sequences.compute([part])[0]
                    rows = range(start, start + part.outputs)
                    if not self._are_numbers(rows):
                        self._sequences.clear()
                        if doubted:
                            raise no_numbers()
                        doubted = True
                    elif rows:
                        yield stacked([as_array(self._context.logits(row), self._n_vocab) for row in rows])
                        first = end
        except GenerationCancelled:
            self._cancelled = False
            raise

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
        self._sequences.close()
        self._weights.close()

    def _full(self) -> list[Answering]:
        """Those whose context is full, and nothing is to be said any more about what is there."""
        return [
            answering
            for answering in self._known.values()
            if len(answering.text) >= self.context_length and not answering.awaited
        ]

    def _end(self, answering: Answering, error: EngineError | None = None) -> None:
        kept = self._outcomes
        self.drop(answering.request)
        self._outcomes = [*kept, Outcome(answering.request, error=error)]

    def _to_compute(self) -> list[Answering]:
        """All who have a sequence; or only one, in an empty cache, as long as there are any that are
        doubted."""
        running = list(self._places.running)
        suspect = next((answering for answering in running if answering.doubted), None)
        if suspect is not self._suspect:
            self._suspect = suspect
            if suspect is not None:
                self._sequences.clear()
        return running if suspect is None else [suspect]

    def _computations(self, running: Sequence[Answering]) -> Iterator[list[_Share]]:
        """What a step computes of ``running``, one after the other; each is made when the one before it is
        done."""
        answers: list[Answering] = []
        forced: list[Answering] = []  # a mask forced ids after the newest one
        prompts: list[Answering] = []
        most_forced = self._chunk or self._context.n_batch
        for answering in running:
            missing = self._parts.missing(answering)
            if missing == 1:
                answers.append(answering)
            elif answering.chooser.answer and missing <= most_forced:
                forced.append(answering)
            else:
                prompts.append(answering)
        for answering in forced:
            yield [(answering, self._parts.next_of(answering))]
        if prompts and self._chunk is None:
            yield self._parts.equal(prompts)
            return
        if answers:
            yield [(answering, self._parts.newest_of(answering)) for answering in answers]
        if prompts:
            yield [self._of_one(prompts, self._chunk if answers else None)]

    def _of_one(self, prompts: Sequence[Answering], most: int | None) -> _Share:
        """Go on with the oldest of ``prompts``, or by turns with the shortest."""
        self._turn += 1
        answering = prompts[0] if self._turn % 2 else min(prompts, key=self._parts.missing)
        return answering, self._parts.next_of(answering, most)

    def _compute(self, parts: Sequence[_Share]) -> bool:
        """Compute ``parts``, and note what comes of them. False where some are no numbers; then nothing is
        in the cache any more."""
        # Sequences next to each other are computed together.
        parts = sorted(parts, key=lambda part: part[1].sequence)
        firsts = self._sequences.compute([part for _answering, part in parts])
        spoilt = []
        for (answering, part), first in zip(parts, firsts, strict=True):
            if not part.outputs:
                continue
            if self._are_numbers(range(first, first + part.outputs)):
                answering.doubted = False
                self._take(answering, part, first)
                continue
            spoilt.append(answering)
        if not spoilt:
            return True
        # What is no number stays in places that are free, too, and would spread from there.
        self._sequences.clear()
        if spoilt[0].doubted:
            self._end(spoilt[0], no_numbers())
            return False
        for answering in spoilt if self._context.build.has_streams else self._places.running:
            answering.doubted = True
        return False

    def _are_numbers(self, indices: Sequence[int]) -> bool:
        return all(self._context.has_finite_logits(index, self._n_vocab) for index in indices)

    def _take(self, answering: Answering, part: Part, first: int) -> None:
        """Note the tokens that follow from the outputs of ``part``, which begin at ``first``."""
        request, text, chooser = answering.request, answering.text, answering.chooser
        place = self._sequences.length(part.sequence) - part.outputs + 1
        try:
            for index in range(first, first + part.outputs):
                if place < len(text):
                    self._outcomes.append(
                        Outcome(request, chooser.take_forced(self._context, text[place], index))
                    )
                    chooser.answer.append(text[place])
                    answering.awaited -= 1
                else:
                    self._outcomes += [Outcome(request, token) for token in self._chosen(answering, index)]
                place += 1
        except EngineError as error:
            self._end(answering, error)

    def _chosen(self, answering: Answering, index: int) -> Sequence[Token]:
        """The next token, out of the logits at ``index``, and those that must follow it.

        With log probabilities these wait until their logits are there.
        """
        chooser, context = answering.chooser, self._context
        if chooser.mask is None:
            token = chooser.choose(context, index)
            answering.text.append(token.id)
            chooser.answer.append(token.id)
            return (token,)
        forced = chooser.forced()
        if forced:
            token = chooser.take_forced(context, forced[0], index)
        else:
            token = chooser.choose(context, index, chooser.allowed())
        answering.text.append(token.id)
        chooser.answer.append(token.id)
        following = chooser.forced()[: self.context_length - len(answering.text)]
        answering.text += following
        if chooser.logprobs:
            answering.awaited = len(following)
            return [token]
        chooser.answer += following
        return [token, *(chooser.take_forced(context, id_, index) for id_ in following)]

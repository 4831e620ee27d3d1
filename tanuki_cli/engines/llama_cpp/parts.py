"""What requests have still to compute, cut into parts of computations as a model for one cuts it."""

from collections.abc import Sequence

from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.cutting import MANY, chunk_size
from tanuki_cli.engines.llama_cpp.sequences import Part, Sequences
from tanuki_cli.engines.token_model import Request


class Answering:
    """One request on its way: ``text`` is its prompt and answer so far.

    The last ``awaited`` ids of it were forced by a mask and not given away yet. ``sequence`` is -1 while it
    waits. ``doubted``: logits were no numbers, which may come from it, from others, or from what was in the
    cache before.
    """

    __slots__ = ("awaited", "cached_tokens", "chooser", "doubted", "request", "sequence", "text")

    def __init__(self, request: Request, chooser: Chooser, prompt_ids: list[int]) -> None:
        self.request = request
        self.chooser = chooser
        self.text = prompt_ids
        self.awaited = 0
        self.sequence = -1
        self.cached_tokens = 0
        self.doubted = False


class Parts:
    """Cuts what is missing in ``sequences``, each of which may hold ``context_length`` ids."""

    def __init__(self, sequences: Sequences, *, context_length: int) -> None:
        self._sequences = sequences
        self._context_length = context_length
        self._n_batch = sequences.context.n_batch
        self._max_outputs = sequences.context.max_outputs

    def missing(self, answering: Answering) -> int:
        """How many of its ids are still to be computed; the very last one of a full context never is."""
        length = min(len(answering.text), self._context_length - 1)
        return length - self._sequences.length(answering.sequence)

    def next_of(self, answering: Answering, most: int | None = None) -> Part:
        """The ids that are missing, about ``most`` of them, and those of one computation at most."""
        most = self._n_batch if most is None else most
        text, done = answering.text, self._sequences.length(answering.sequence)
        total = min(len(text), self._context_length - 1)
        size = chunk_size(done, total, n_batch=self._n_batch, most=most)
        # The output of an id is for the one after it.
        wanted = len(text) - 1 - answering.awaited
        outputs = max(0, done + size - wanted)
        excess = max(0, outputs - self._max_outputs)
        outputs, size = outputs - excess, size - excess
        return Part(answering.sequence, text[done : done + size], min(outputs, size))

    def newest_of(self, answering: Answering) -> Part:
        """The one id that is missing."""
        if answering.awaited:
            return self.next_of(answering, 1)
        return Part(answering.sequence, answering.text[-1:], 1)  # the most common by far

    def equal(self, prompts: Sequence[Answering]) -> list[tuple[Answering, Part]]:
        """The same number of ids of as many of ``prompts`` as a computation takes: llama.cpp computes
        sequences together as far as they have equally many. Fewer than MANY only by themselves: others
        would change their numbers."""
        parts = [(answering, self.next_of(answering)) for answering in prompts]
        parts.sort(key=lambda part: len(part[1].ids))
        equal, outputs = parts[:1], parts[0][1].outputs
        size = len(parts[0][1].ids)
        for answering, _whole in parts[1 : self._n_batch // size] if size >= MANY else ():
            part = self.next_of(answering, size)
            outputs += part.outputs
            if outputs > self._max_outputs:
                break
            if len(part.ids) == size:
                equal.append((answering, part))
        return equal

"""What follows the text so far: the mask of a shape, near ties, the sampler, and log probabilities."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.llama_cpp.cache import SequenceCache
from tanuki_cli.engines.llama_cpp.drafting import NgramIndex
from tanuki_cli.engines.llama_cpp.sampling import Sampler
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:  # numpy's import takes longer than most chats ever need it
    import numpy as np
    import numpy.typing as npt

    from tanuki_cli.engines.probabilities import Logits, Probabilities


class Picker:
    """Chooses the tokens of one answer from what ``cache`` computed; a context manager.

    ``text`` is the prompt and the answer so far. Whoever gives a token away adds it with :meth:`add`.
    """

    def __init__(
        self,
        cache: SequenceCache,
        options: SamplingOptions,
        *,
        n_vocab: int,
        prompt_ids: Sequence[int],
        mask: LogitsMask | None,
        logprobs: int,
    ) -> None:
        self.text = NgramIndex(prompt_ids)
        self.logprobs = logprobs
        self._cache = cache
        self._n_vocab = n_vocab
        self._mask = mask
        self._answer: list[int] = []
        self._sampler = Sampler(options, n_vocab=n_vocab, prompt_ids=prompt_ids)

    def add(self, id_: int) -> None:
        """``id_`` is part of the answer now."""
        self.text.append(id_)
        self._answer.append(id_)

    def forced(self) -> Sequence[int]:
        """The ids that must follow; empty where there is a choice."""
        return self._mask.forced(self._answer) if self._mask is not None else ()

    def agreed(self, draft: Sequence[int]) -> int:
        """How many ids of ``draft`` the mask allows, one after another."""
        return len(draft) if self._mask is None else self._mask.agreed(self._answer, draft)

    def pick(self, index: int = -1) -> tuple[Token, bool]:
        """Choose from output ``index`` of the newest computation; whether the cache was settled for it.

        The best of two tokens that are nearly equal may depend on rounding. A greedy answer must not
        depend on what was drafted, so there the cache is computed again without drafts first.
        """
        allowed = None
        if self._mask is not None:
            if forced := self._mask.forced(self._answer):
                return self.take_forced(forced[0], index), False
            allowed = self._mask.allowed(self._answer)
        self._cache.require_numbers(index, self._n_vocab)
        settled = self._sampler.greedy and not self._cache.settled and self._is_near_tie(index, allowed)
        if settled:
            self._cache.settle()
            index = -1
            self._cache.require_numbers(index, self._n_vocab)
        if allowed is None and not self.logprobs:
            return Token(self._sampler.sample(self._cache.context, index)), settled
        return self._pick_with_care(index, allowed), settled

    def take_forced(self, id_: int, index: int = -1) -> Token:
        """``id_``, which the mask forces, as it stands at output ``index``; nothing is drawn for it."""
        self._sampler.accept(id_)
        return self._probabilities(index).token(id_) if self.logprobs else Token(id_)

    def _pick_with_care(self, index: int, allowed: "npt.NDArray[np.bool_] | None") -> Token:
        from tanuki_cli.engines.llama_cpp.ties import forbid

        probabilities = self._probabilities(index) if self.logprobs else None
        if allowed is not None:
            forbid(self._logits(index), allowed)
        id_ = self._sampler.sample(self._cache.context, index)
        return Token(id_) if probabilities is None else probabilities.token(id_)

    def _probabilities(self, index: int) -> "Probabilities":
        from tanuki_cli.engines.probabilities import Probabilities

        return Probabilities(self._logits(index), self.logprobs)

    def _is_near_tie(self, index: int, allowed: "npt.NDArray[np.bool_] | None") -> bool:
        from tanuki_cli.engines.llama_cpp.ties import is_near_tie

        sampler = self._sampler
        recent = sampler.window(self.text.ids)
        return is_near_tie(
            self._logits(index), repeat_penalty=sampler.repeat_penalty, recent_ids=recent, allowed=allowed
        )

    def _logits(self, index: int) -> "Logits":
        from tanuki_cli.engines.llama_cpp.ties import as_array

        return as_array(self._cache.context.logits(index), self._n_vocab)

    def close(self) -> None:
        """Free the sampler."""
        self._sampler.close()

    def __enter__(self) -> "Picker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""What follows the text so far where it may have been drafted: near ties are settled first."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.llama_cpp.cache import SequenceCache
from tanuki_cli.engines.llama_cpp.choosing import Chooser
from tanuki_cli.engines.llama_cpp.drafting import NgramIndex
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:  # numpy's import takes longer than most chats ever need it
    import numpy as np
    import numpy.typing as npt


class Picker:
    """Chooses the tokens of one answer from what ``cache`` computed; a context manager.

    ``text`` is the prompt and the answer so far. Whoever gives a token away adds it with :meth:`add`.
    ``last_text`` is that of the last answer: where the prompt goes on from it, it grows instead of being
    made anew.
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
        last_text: NgramIndex | None = None,
    ) -> None:
        if last_text is None or not last_text.grow_to(prompt_ids):
            last_text = NgramIndex(prompt_ids)
        self.text = last_text
        self.logprobs = logprobs
        self._cache = cache
        self._n_vocab = n_vocab
        self._chooser = Chooser(options, n_vocab=n_vocab, prompt_ids=prompt_ids, mask=mask, logprobs=logprobs)

    def add(self, id_: int) -> None:
        """``id_`` is part of the answer now."""
        self.text.append(id_)
        self._chooser.answer.append(id_)

    def forced(self) -> Sequence[int]:
        """The ids that must follow; empty where there is a choice."""
        return self._chooser.forced()

    def agreed(self, draft: Sequence[int]) -> int:
        """How many ids of ``draft`` the mask allows, one after another."""
        mask = self._chooser.mask
        return len(draft) if mask is None else mask.agreed(self._chooser.answer, draft)

    def pick(self, index: int = -1) -> tuple[Token, int]:
        """Choose from output ``index`` of the newest computation; how many ids were computed again for it.

        The best of two tokens that are nearly equal may depend on rounding. A greedy answer must not
        depend on what was drafted, so there the cache is computed again without drafts first.
        """
        chooser = self._chooser
        if forced := chooser.forced():
            return self.take_forced(forced[0], index), 0
        allowed = chooser.allowed()
        self._cache.require_numbers(index, self._n_vocab)
        settled = 0
        if chooser.sampler.greedy and not self._cache.settled and self._is_near_tie(index, allowed):
            settled = self._cache.settle()
            index = -1
            self._cache.require_numbers(index, self._n_vocab)
        return chooser.choose(self._cache.context, index, allowed), settled

    def take_forced(self, id_: int, index: int = -1) -> Token:
        """``id_``, which the mask forces, as it stands at output ``index``; nothing is drawn for it."""
        return self._chooser.take_forced(self._cache.context, id_, index)

    def _is_near_tie(self, index: int, allowed: "npt.NDArray[np.bool_] | None") -> bool:
        from tanuki_cli.engines.llama_cpp.ties import is_near_tie

        sampler = self._chooser.sampler
        return is_near_tie(
            self._chooser.logits(self._cache.context, index),
            repeat_penalty=sampler.repeat_penalty,
            recent_ids=sampler.window(self.text.ids),
            allowed=allowed,
        )

    def close(self) -> None:
        """Free the sampler."""
        self._chooser.close()

    def __enter__(self) -> "Picker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

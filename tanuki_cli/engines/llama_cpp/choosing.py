"""The next token of one answer out of the model's logits: its mask, its sampler, log probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.llama_cpp.native import Context
from tanuki_cli.engines.llama_cpp.sampling import Sampler
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:  # numpy's import takes longer than most chats ever need it
    import numpy as np
    import numpy.typing as npt

    from tanuki_cli.engines.probabilities import Logits, Probabilities


class Chooser:
    """Chooses the tokens of one answer; ``options.seed`` is set.

    ``answer`` are its ids so far: whoever gives a token away appends it. Logits are named by the index of
    an output in the newest computation of a context, and must be numbers.
    """

    def __init__(
        self,
        options: SamplingOptions,
        *,
        n_vocab: int,
        prompt_ids: Sequence[int],
        mask: LogitsMask | None,
        logprobs: int,
    ) -> None:
        self.answer: list[int] = []
        self.mask = mask
        self.logprobs = logprobs
        self.sampler = Sampler(options, n_vocab=n_vocab, prompt_ids=prompt_ids)
        self._n_vocab = n_vocab

    def forced(self) -> Sequence[int]:
        """The ids that must follow; empty where there is a choice."""
        return self.mask.forced(self.answer) if self.mask is not None else ()

    def allowed(self) -> "npt.NDArray[np.bool_] | None":
        """Which ids may follow; None where all may."""
        return self.mask.allowed(self.answer) if self.mask is not None else None

    def choose(self, context: Context, index: int, allowed: "npt.NDArray[np.bool_] | None" = None) -> Token:
        """One of the ``allowed`` ids, by the sampler."""
        if allowed is None and not self.logprobs:
            return Token(self.sampler.sample(context, index))
        from tanuki_cli.engines.llama_cpp.ties import forbid

        probabilities = self._probabilities(context, index) if self.logprobs else None
        if allowed is not None:
            forbid(self.logits(context, index), allowed)
        id_ = self.sampler.sample(context, index)
        return Token(id_) if probabilities is None else probabilities.token(id_)

    def take_forced(self, context: Context, id_: int, index: int) -> Token:
        """``id_``, which the mask forces, as it stands in those logits; nothing is drawn for it."""
        self.sampler.accept(id_)
        return self._probabilities(context, index).token(id_) if self.logprobs else Token(id_)

    def logits(self, context: Context, index: int) -> "Logits":
        """The logits, not copied: valid until the next computation."""
        from tanuki_cli.engines.llama_cpp.ties import as_array

        return as_array(context.logits(index), self._n_vocab)

    def close(self) -> None:
        """Free the sampler."""
        self.sampler.close()

    def _probabilities(self, context: Context, index: int) -> "Probabilities":
        from tanuki_cli.engines.probabilities import Probabilities

        return Probabilities(self.logits(context, index), self.logprobs)

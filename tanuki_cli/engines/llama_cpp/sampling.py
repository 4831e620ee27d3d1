"""Choosing the next token, by llama.cpp's own sampler chain over the whole vocabulary.

The order is llama.cpp's default: repeat penalty, top-k, top-p, min-p, temperature, draw. The repeat
penalty looks at the last 64 tokens, those of the prompt included, as llama.cpp's programs do.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tanuki_cli.engines.llama_cpp.bindings import native
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP
from tanuki_cli.engines.llama_cpp.llama_h import set_fields
from tanuki_cli.engines.llama_cpp.native import Context
from tanuki_cli.engines.token_model import PENALTY_WINDOW
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:
    from tanuki_cli.engines.llama_cpp.candidates import Candidates


class Sampler:
    """The chain for one answer; ``options.seed`` must be set. A context manager that frees it.

    ``greedy`` says that the most likely token is always taken.

    One random number is drawn per sampled token, so the same seed and logits give the same tokens.
    """

    def __init__(self, options: SamplingOptions, *, n_vocab: int, prompt_ids: Sequence[int]) -> None:
        self.greedy = options.greedy
        self.repeat_penalty = options.repeat_penalty
        self._n_vocab = n_vocab
        self._candidates: Candidates | None = None
        chain_params = native.llama_sampler_chain_default_params()
        set_fields(chain_params, {"no_perf": True})
        self._chain = native.llama_sampler_chain_init(chain_params)
        if options.repeat_penalty != 1.0:
            penalty = native.llama_sampler_init_penalties(
                n_vocab, PENALTY_WINDOW, options.repeat_penalty, 0.0, 0.0
            )
            self._add(penalty)
        if self.greedy:
            self._add(native.llama_sampler_init_greedy())
        else:
            if options.top_k > 0:
                self._add(native.llama_sampler_init_top_k(options.top_k))
            if options.top_p < 1.0:
                self._add(native.llama_sampler_init_top_p(options.top_p, 1))
            if options.min_p > 0.0:
                self._add(native.llama_sampler_init_min_p(options.min_p, 1))
            self._add(native.llama_sampler_init_temp(options.temperature))
            self._add(native.llama_sampler_init_dist(options.seed or 0))
        for id_ in prompt_ids[-PENALTY_WINDOW:]:
            self.accept(id_)

    def sample(self, context: Context, index: int = -1) -> int:
        """The next token from the logits of output ``index`` of the newest decode (-1: the last)."""
        if context.build is LLAMA_CPP:
            return int(native.llama_sampler_sample(self._chain, context.handle, index))
        id_ = self._choose(context.logits(index))
        self.accept(id_)
        return id_

    def accept(self, id_: int) -> None:
        """Take ``id_`` as the next token without drawing: the repeat penalty sees it."""
        native.llama_sampler_accept(self._chain, id_)

    def window(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of ``ids``, the text so far, that the repeat penalty looks at."""
        return ids[-PENALTY_WINDOW:]

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            native.llama_sampler_free(self._chain)
            self._chain = 0

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, sampler: int) -> None:
        native.llama_sampler_chain_add(self._chain, sampler)

    def _choose(self, logits: Any) -> int:
        """As llama.cpp does for a context of its own."""
        from tanuki_cli.engines.llama_cpp.candidates import Candidates  # needs numpy

        if self._candidates is None:
            self._candidates = Candidates(self._n_vocab)
        return self._candidates.choose(self._chain, logits)

"""Choosing the next token with transformers' own logits processors.

The order is that of the llama.cpp engine: repeat penalty, top-k, top-p, min-p, temperature, draw. The
repeat penalty looks at the last 64 tokens, those of the prompt included.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.engines.probabilities import Probabilities
from tanuki_cli.engines.token_model import PENALTY_WINDOW
from tanuki_cli.sampling import SamplingOptions


class TokenSampler:
    """Draws the tokens of one answer; ``options.seed`` must be set.

    One random number stream per answer, so the same seed and logits give the same tokens. ``mask`` and
    ``logprobs`` as in :meth:`TokenModel.generate <tanuki_cli.engines.token_model.TokenModel.generate>`.
    """

    def __init__(
        self,
        options: SamplingOptions,
        *,
        prompt_ids: Sequence[int],
        device: torch.device,
        mask: LogitsMask | None = None,
        logprobs: int = 0,
    ) -> None:
        self.has_forced = False
        self._recent = deque(prompt_ids[-PENALTY_WINDOW:], maxlen=PENALTY_WINDOW)
        self._penalized = options.repeat_penalty != 1.0
        self._greedy = options.greedy
        self._processors = _processors(options, greedy=self._greedy)
        self._generator = torch.Generator(device).manual_seed(options.seed or 0)
        self._mask = mask
        self._logprobs = logprobs
        self._answer: list[int] = []

    def next_tokens(self, logits: torch.Tensor, *, most: int) -> Iterator[Token]:
        """What follows ``logits``, a float32 tensor of shape (1, vocabulary): the ids that the mask
        forces, at most ``most``, or else one that is drawn.

        With log probabilities one at a time, for each has its own logits. ``has_forced`` says whether
        there is another one.
        """
        forced = self._mask.forced(self._answer) if self._mask is not None else ()
        if not forced:
            yield self._taken(self._sample(logits), logits)
            return
        forced = forced[: 1 if self._logprobs else most]
        for place, id_ in enumerate(forced, start=1):
            self.has_forced = place < len(forced)
            yield self._taken(id_, logits)

    def _taken(self, id_: int, logits: torch.Tensor) -> Token:
        self._recent.append(id_)
        self._answer.append(id_)
        if not self._logprobs:
            return Token(id_)
        return Probabilities(logits[0].cpu().numpy(), self._logprobs).token(id_)

    def _sample(self, logits: torch.Tensor) -> int:
        if self._mask is not None:
            allowed = torch.from_numpy(self._mask.allowed(self._answer)).to(logits.device)
            logits = logits.masked_fill(~allowed, -torch.inf)
        if self._processors:
            recent = torch.tensor([list(self._recent) if self._penalized else []], device=logits.device)
            logits = self._processors(recent, logits)
        if self._greedy:
            return int(logits.argmax(dim=-1))
        return int(torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=self._generator))


def _processors(options: SamplingOptions, *, greedy: bool) -> LogitsProcessorList:
    """Only those that change anything: a top-p over 65,000 tokens sorts them all."""
    processors = LogitsProcessorList()
    if options.repeat_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(float(options.repeat_penalty)))
    if greedy:
        return processors
    if options.top_k > 0:
        processors.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        processors.append(TopPLogitsWarper(options.top_p))
    if options.min_p > 0.0:
        processors.append(MinPLogitsWarper(options.min_p))
    if options.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(float(options.temperature)))
    return processors

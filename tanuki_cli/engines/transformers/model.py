"""TokenModel on a transformers network: a plain decode loop over its KV cache.

Not ``model.generate``: that knows no prefix to reuse, cannot be stopped inside a step, and gives its
tokens to a callback.
"""

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from inspect import signature
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import StaticLayer

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.base import EngineInfo, GenerationCancelled
from tanuki_cli.engines.faults import no_numbers
from tanuki_cli.engines.masks import LogitsMask
from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.engines.transformers.library import translated
from tanuki_cli.engines.transformers.sampling import TokenSampler
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions

_CHUNK_ON_CPU: Final = 64
"""Tokens of a prompt processed at once: enough for full speed, few enough for Ctrl-C within a layer."""
_CHUNK_ON_GPU: Final = 512
_WARM_UP_STEPS: Final = 5
"""The first compiles, the second may compile again for what has changed, the third records a CUDA graph."""


class TransformersModel:
    """Implements :class:`~tanuki_cli.engines.token_model.TokenModel`; made by :func:`load_transformers`.

    ``compile_backend`` names a ``torch.compile`` backend for the decode step; the KV cache then has
    its full size from the start. ``custom_code`` says that the model is code from a repository, which
    may raise anything.
    """

    def __init__(
        self,
        model: Any,
        *,
        info: EngineInfo,
        context_length: int,
        notes: tuple[str, ...] = (),
        compile_backend: str | None = None,
        custom_code: bool = False,
    ) -> None:
        self._model = model
        self._notes = notes
        self._info = info
        self._context_length = context_length
        self._device: torch.device = model.get_input_embeddings().weight.device
        # Code from a repository may know no logits_to_keep; it then gives the logits of the whole chunk.
        known = signature(model.forward).parameters
        self._keeps_some_logits = "logits_to_keep" in known
        # transformers 5.24 gave it another name, and warns of the old one.
        self._cache_name = "cache" if "cache" in known else "past_key_values"
        self._decode: Any = model
        self._static = compile_backend is not None
        if compile_backend is not None:
            # CUDA graphs spare the launches, which take longer than the kernels for one token.
            mode = "reduce-overhead" if self._device.type == "cuda" else None
            self._decode = torch.compile(model.forward, backend=compile_backend, mode=mode, fullgraph=True)
        self._chunk = _CHUNK_ON_CPU if self._device.type == "cpu" else _CHUNK_ON_GPU
        self._cache = self._new_cache()
        self._ids: list[int] = []  # what the cache holds
        self._cached_tokens = 0
        self._cancelled = False
        self._running: Generator[object, None, None] | None = None
        self.next_is_ready = False
        self._errors = (Exception,) if custom_code else (RuntimeError,)
        if self._device.type == "cpu" and not self._static:
            # A step of a large model takes seconds here; Ctrl-C must not wait for its end.
            for layer in _decoder_layers(model):
                layer.register_forward_pre_hook(lambda *_args: self._check_cancelled())

    @property
    def info(self) -> EngineInfo:
        """What runs where; the device includes the type of the weights."""
        return self._info

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""
        return self._context_length

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user about how it was loaded."""
        return self._notes

    @property
    def cached_tokens(self) -> int:
        """How many prompt ids of the newest :meth:`generate` were in the KV cache already."""
        return self._cached_tokens

    def generate(
        self,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        mask: LogitsMask | None = None,
        logprobs: int = 0,
    ) -> Generator[Token, None, None]:
        """Yield the tokens that follow ``prompt_ids`` until closed or the context is full.

        ``mask`` and ``logprobs`` as in :meth:`TokenModel.generate
        <tanuki_cli.engines.token_model.TokenModel.generate>`.
        The cache keeps what was processed, so that a prompt that begins the same costs only its end.
        Ends an earlier generator of this model. Raises EngineError, and GenerationCancelled after
        :meth:`cancel`; ValueError for an empty prompt and after :meth:`close`.
        """
        if self._model is None or not prompt_ids:
            raise ValueError("the model is closed" if self._model is None else "the prompt is empty")
        self._begin(prompt_ids)
        running = self._running = self._generate(list(prompt_ids), options, mask, logprobs)
        return running

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> Generator[NDArray[np.float32], None, None]:
        """Yield the logits after each of ``ids[first:]``; see :meth:`TokenModel.logits
        <tanuki_cli.engines.token_model.TokenModel.logits>`."""
        if self._model is None or not 0 <= first < len(ids):
            raise ValueError("the model is closed" if self._model is None else "first is none of the ids")
        self._begin(ids)
        running = self._running = self._logits(list(ids), first, reuse)
        return running

    @property
    def network(self) -> Any:
        """The ``transformers`` model itself; for measurements."""
        return self._model

    def warm_up(self) -> None:
        """Run the compiled step until nothing of it is left to be compiled or recorded.

        Takes up to a minute, which is better spent while the model is loaded than in an answer, where
        Ctrl-C must work. Raises EngineError if it cannot be compiled.
        """
        nothing = SamplingOptions(temperature=0.0, seed=0)
        try:
            with closing(self._generate([0], nothing, None, 0)) as tokens:
                for _step in range(_WARM_UP_STEPS):
                    next(tokens, None)
        finally:
            self._ids.clear()
            self._settle_cache()

    def cancel(self) -> None:
        """Make what runs raise GenerationCancelled soon; only sets a flag."""
        self._cancelled = True

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._running is not None:
            self._running.close()
        self._model = self._decode = self._cache = None
        self._ids = []
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _begin(self, ids: Sequence[int]) -> None:
        """End what runs, for ``ids`` to be processed next. Raises EngineError if there are too many."""
        if len(ids) > self._context_length:
            raise EngineError(
                _("The prompt has {count} tokens, the context {limit}.").format(
                    count=len(ids), limit=self._context_length
                ),
                hint=_("Use --context-length, or start a new chat."),
            )
        if self._running is not None:
            self._running.close()
        self._cancelled = False

    def _logits(self, ids: list[int], first: int, reuse: bool) -> Generator[NDArray[np.float32], None, None]:
        kept = shared_prefix(ids[:first], self._ids) if reuse else 0
        del self._ids[kept:]
        self._settle_cache()
        try:
            for start in range(kept, len(ids), self._chunk):
                part = ids[start : start + self._chunk]
                rows = start + len(part) - max(first, start)
                logits = self._feed(part, self._model, rows=max(rows, 1))
                self._check_finite(logits)
                if rows > 0:
                    yield logits.cpu().numpy()
        except (GenerationCancelled, EngineError):
            raise
        except self._errors as exc:
            raise translated(exc, self._info.model) from exc
        finally:
            self._settle_cache()

    def _generate(
        self, prompt_ids: list[int], options: SamplingOptions, mask: LogitsMask | None, logprobs: int
    ) -> Generator[Token, None, None]:
        # 1. Keep the shared prefix, but process at least one token: its logits are needed.
        self._cached_tokens = shared_prefix(prompt_ids[:-1], self._ids)
        del self._ids[self._cached_tokens :]
        self._settle_cache()
        try:
            # 2. The rest of the prompt, in chunks.
            logits = self._feed_all(prompt_ids[self._cached_tokens :])
            self._check_finite(logits)
            # 3. One token at a time; it is given away before it is fed.
            sampler = TokenSampler(
                options, prompt_ids=prompt_ids, device=logits.device, mask=mask, logprobs=logprobs
            )
            remaining = self._context_length - len(prompt_ids)
            while remaining > 0:
                self._check_cancelled()
                run = []
                for token in sampler.next_tokens(logits, most=remaining):
                    run.append(token.id)
                    self.next_is_ready = sampler.has_forced
                    yield token
                remaining -= len(run)
                if remaining > 0:
                    logits = self._feed(run, self._decode) if len(run) == 1 else self._feed_all(run)
        except (GenerationCancelled, EngineError):
            raise
        except self._errors as exc:
            raise translated(exc, self._info.model) from exc
        finally:
            self._settle_cache()

    def _feed_all(self, ids: list[int]) -> torch.Tensor:
        """Append ``ids`` in chunks; the logits after the last."""
        for start in range(0, len(ids), self._chunk):
            logits = self._feed(ids[start : start + self._chunk], self._model)
        return logits

    @torch.no_grad()
    def _feed(self, ids: list[int], forward: Callable[..., Any], *, rows: int = 1) -> torch.Tensor:
        """Append ``ids`` to the cache; the logits after the last ``rows``, float32 of shape
        (rows, vocabulary)."""
        self._check_cancelled()
        options = {"logits_to_keep": rows} if self._keeps_some_logits else {}
        output = forward(
            input_ids=torch.tensor([ids], device=self._device),
            use_cache=True,
            **{self._cache_name: self._cache},
            **options,
        )
        self._ids += ids
        logits: torch.Tensor = output.logits[0, -rows:].float()
        return logits

    def _check_finite(self, logits: torch.Tensor) -> None:
        if not logits.isfinite().all():
            self._ids.clear()
            raise no_numbers()

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise GenerationCancelled

    def _new_cache(self) -> Any:
        config = self._model.config
        if self._static:
            return StaticCache(config=config, max_cache_len=self._context_length)
        return DynamicCache(config=config)

    def _settle_cache(self) -> None:
        """Cut every layer of the cache down to ``_ids``; a step that was broken off left some longer."""
        length = len(self._ids)
        for layer in self._cache.layers:
            if isinstance(layer, StaticLayer):
                if layer.is_initialized:
                    layer.cumulative_length.fill_(length)
            elif (extra := layer.get_seq_length() - length) > 0:
                layer.crop(-extra)


def _decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The model's stack of layers: its first list of modules."""
    return next((module for module in model.modules() if isinstance(module, nn.ModuleList)), nn.ModuleList())

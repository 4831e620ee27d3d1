"""A model for several requests at once, and what comes of it."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.llama_cpp.native import Context
from tanuki_cli.engines.llama_cpp.parallel import SPARE_OUTPUTS, LlamaCppParallel
from tanuki_cli.engines.llama_cpp.places import Crowd
from tanuki_cli.engines.llama_cpp.ties import is_near_tie
from tanuki_cli.engines.token_model import Outcome, Request, token_ids
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import load

SETTINGS = Settings(context_length=512, threads=1, speculation=False)


def load_parallel(
    path: Path,
    *,
    places: int,
    chunk: int | None = 16,
    settings: Settings = SETTINGS,
    crowd: Crowd | None = None,
    n_batch: int | None = None,
) -> LlamaCppParallel:
    """The model at ``path``."""
    single = load(path, settings)
    params = replace(
        single._longest_params,
        n_ctx=places * single._longest_params.n_ctx,
        n_batch=n_batch or single._longest_params.n_batch,
        n_sequences=places,
        max_outputs=places + SPARE_OUTPUTS,
    )
    single._context.close()
    single._closed = True
    return LlamaCppParallel(
        single._model,
        Context(single._model, params),
        facts=single.facts,
        context_length=single.context_length,
        chunk=chunk,
        crowd=crowd,
    )


class Company:
    """Runs requests, and keeps what each was given: ``ids``, and how some ``ended`` by themselves."""

    def __init__(self, model: LlamaCppParallel) -> None:
        self.model = model
        self.ids: dict[Request, list[int]] = {}
        self.wanted: dict[Request, int] = {}
        self.ended: dict[Request, Outcome] = {}
        self.cached: dict[Request, int] = {}
        self.running: list[Request] = []
        self.steps = 0

    def add(self, request: Request, count: int) -> Request:
        """Ask for so many tokens."""
        self.model.add(request)
        self.ids[request], self.wanted[request] = [], count
        self.running.append(request)
        return request

    def drop(self, request: Request) -> None:
        """Want no more of it."""
        self.cached[request] = self.model.cached_tokens(request)
        self.model.drop(request)
        self.running.remove(request)

    def step(self) -> None:
        """Take one step, and drop those that have enough."""
        self.steps += 1
        for outcome in self.model.step():
            request, token, _error = outcome
            assert request in self.running or len(self.ids[request]) == self.wanted[request]
            if request not in self.running:
                continue  # it has enough; ids that a mask forces come together
            if token is None:
                self.ended[request] = outcome
                self.running.remove(request)
                continue
            self.ids[request].append(token.id)
            if len(self.ids[request]) == self.wanted[request]:
                self.drop(request)

    def run(self, requests: Iterable[Request] = (), *, count: int = 0) -> None:
        """Step until nobody is left; ``requests`` for ``count`` tokens each join as places become free."""
        waiting = deque(requests)
        while waiting or self.running:
            while waiting and len(self.running) < self.model.places:
                self.add(waiting.popleft(), count)
            self.step()


def alone(model: LlamaCppModel, request: Request, count: int) -> list[int]:
    """What a model for one conversation gives."""
    model._cache.forget_from(0)
    generated = token_ids(model.generate(request.prompt_ids, request.options, mask=request.mask))
    return list(islice(generated, count))


def as_alone(model: LlamaCppModel, request: Request, ids: Sequence[int], count: int) -> bool:
    """Whether ``ids`` are what ``model``, one for one conversation, gives: to the last token, or, where
    sequences share a cache, up to where rounding may choose another one."""
    expected = alone(model, request, count)
    if model._model.build.has_streams:
        return list(ids) == expected
    if request.options.greedy:
        return parts_at_a_tie(model, request, expected, ids)
    return parts_at_a_border(model, request, expected, ids)


def parts_at_a_tie(
    model: LlamaCppModel, request: Request, first: Sequence[int], second: Sequence[int]
) -> bool:
    """Whether two greedy answers are equal, or part where ``model`` finds two tokens nearly as good."""
    text = common(request, first, second)
    if text is None:
        return list(first) == list(second)
    rows = next(model.logits(text, first=len(text) - 1))
    options = request.options
    return is_near_tie(rows[0], repeat_penalty=options.repeat_penalty, recent_ids=text[-64:])


def parts_at_a_border(
    model: LlamaCppModel, request: Request, first: Sequence[int], second: Sequence[int]
) -> bool:
    """Whether two sampled answers are equal, or part where they take neighbours in the order of their
    probability: a random number next to the border between these chooses either. For weights in f32, where
    rounding moves the borders by less than a token is wide."""
    text = common(request, first, second)
    if text is None:
        return list(first) == list(second)
    logits = next(model.logits(text, first=len(text) - 1))[0].copy()
    recent = list(set(text[-64:]))
    penalty = request.options.repeat_penalty
    logits[recent] = np.where(logits[recent] > 0, logits[recent] / penalty, logits[recent] * penalty)
    done = len(text) - len(request.prompt_ids)
    ranks = [int(np.count_nonzero(logits > logits[ids[done]])) for ids in (first, second)]
    return abs(ranks[0] - ranks[1]) <= 2  # two of about the same probability may change places


def common(request: Request, first: Sequence[int], second: Sequence[int]) -> list[int] | None:
    """The text up to where two answers to ``request`` part; None where they do not."""
    pairs = enumerate(zip(first, second, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), None)
    return None if place is None else [*request.prompt_ids, *first[:place]]


def sampled(seed: int, temperature: float = 0.8) -> SamplingOptions:
    return SamplingOptions(temperature=temperature, top_p=0.95, repeat_penalty=1.05, seed=seed)

"""What a local engine runs on: a model that takes and gives token ids, nothing else."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import Struct

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.base import EngineInfo
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:  # its import takes longer than most chats ever need it
    import numpy as np
    from numpy.typing import NDArray

    from tanuki_cli.engines.masks import LogitsMask

PENALTY_WINDOW: Final = 64
"""The repeat penalty looks at so many of the last tokens, on every local engine, as llama.cpp's do."""


class TokenModel(Protocol):
    """A local backend: takes and gives token ids, nothing else."""

    @property
    def info(self) -> EngineInfo:
        """What runs where."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user about how the model was loaded."""

    @property
    def cached_tokens(self) -> int:
        """How many prompt ids of the newest :meth:`generate` were in the KV cache already."""

    @property
    def next_is_ready(self) -> bool:
        """Whether the id after the one just given is known already, so that it comes at once."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        mask: "LogitsMask | None" = None,
        logprobs: int = 0,
    ) -> Generator[Token, None, None]:
        """Yield the tokens that follow ``prompt_ids``, one at a time, until closed or the context is full.

        Knows no stop rule and no ``max_new_tokens``: the caller closes the generator. ``options.seed``
        is set. ``mask`` says which ids may come; ids that it forces are not drawn, and computed together.
        ``logprobs`` above 0 gives every token its log probability, and so many alternatives.

        Raises EngineError, and GenerationCancelled after :meth:`cancel`.
        """

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> "Generator[NDArray[np.float32], None, None]":
        """Yield what the model says after each of ``ids[first:]``, whatever it says itself.

        Blocks of shape (rows, vocabulary) in the order of the ids, the caller's to keep. With ``reuse``
        a beginning that is in the cache is not computed again; without it the numbers depend on ``ids``
        alone. Ends a running generator. Raises EngineError, and GenerationCancelled after :meth:`cancel`;
        ValueError unless ``first`` is the place of one of ``ids``.
        """

    def cancel(self) -> None:
        """Make the running :meth:`generate` or :meth:`logits` raise GenerationCancelled soon; only sets a
        flag."""

    def close(self) -> None:
        """Free the model. May be called twice."""


class Request(Struct, frozen=True, kw_only=True, eq=False):
    """Tokens that are wanted of a :class:`ParallelModel`; the fields are what :meth:`TokenModel.generate`
    takes. No two are equal."""

    prompt_ids: Sequence[int]
    options: SamplingOptions
    mask: "LogitsMask | None" = None
    logprobs: int = 0


class Outcome(NamedTuple):
    """What a step brought for ``request``: its next token, or the error that ended it, or neither, where
    its context is full. In the last two cases it is gone."""

    request: Request
    token: Token | None = None
    error: EngineError | None = None


class ParallelModel(Protocol):
    """A local backend that gives the tokens of several requests at once.

    As a :class:`TokenModel` it knows no stop rule and no ``max_new_tokens``: whoever has enough of a
    request drops it. For one thread, except for :meth:`cancel`.
    """

    @property
    def places(self) -> int:
        """How many requests are worked on at a time."""

    def add(self, request: Request) -> None:
        """Take ``request``. ValueError for a prompt that is empty, or longer than the context."""

    def step(self) -> list[Outcome]:
        """Compute once for all requests that have a place; empty where that gave no token yet.

        Raises EngineError where the model itself fails, and GenerationCancelled after :meth:`cancel`: the
        next step goes on where this one began.
        """

    def drop(self, request: Request) -> None:
        """Forget ``request``, which may be gone already; no other one is touched."""

    def cached_tokens(self, request: Request) -> int:
        """How many of the prompt ids of ``request``, which is not gone, were in the KV cache already."""

    def logits(
        self, ids: Sequence[int], *, first: int = 0, reuse: bool = False
    ) -> "Generator[NDArray[np.float32], None, None]":
        """As :meth:`TokenModel.logits`; all requests wait until it ends. Needs a place that is free."""

    def cancel(self) -> None:
        """Make the running :meth:`step` or :meth:`logits`, or the next, raise GenerationCancelled soon; only
        sets a flag."""

    def close(self) -> None:
        """Forget all requests and free the model. May be called twice."""


def token_ids(tokens: Generator[Token, None, None]) -> Generator[int, None, None]:
    """The ids of ``tokens``, for callers that want nothing else; closes it when it is closed itself."""
    with closing(tokens):
        for token in tokens:
            yield token.id


def shared_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with; found by halves, as prompts are long."""
    if type(first) is not type(second):  # a list never equals a tuple
        first, second = list(first), list(second)
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low

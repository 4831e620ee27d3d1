"""What is asked of a model and what it gives: values, and nothing that runs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from tanuki_cli.conversation import FinishReason, Message, Usage
from tanuki_cli.errors import TanukiError
from tanuki_cli.sampling import SamplingOptions

if TYPE_CHECKING:  # a shape is for those who ask for one
    from tanuki_cli.engines.shapes import Shape


class PromptPlan(Struct, frozen=True, kw_only=True):
    """What the model will see of a conversation.

    ``messages`` are those that stayed, ``dropped`` counts the oldest messages that did not fit.
    ``prompt_tokens`` is None where only the server can count; ``limit`` is the most that may be
    used by the prompt.
    """

    messages: tuple[Message, ...]
    dropped: int
    prompt_tokens: int | None
    limit: int


class AnswerForm(Struct, frozen=True, kw_only=True):
    """What is asked of one answer, beside how it is sampled.

    ``shape`` is what it must look like. ``logprobs`` above 0 gives every token its log probability, and
    so many alternatives. ``scores`` asks for the probability of every one of the shape's choices; an
    answer that always takes the likeliest token then is the likeliest of them as a whole. ``begun`` is how
    the answer begins: a text, or the very ids that were there where an answer goes on.
    """

    shape: "Shape | None" = None
    logprobs: int = 0
    scores: bool = False
    begun: str | tuple[int, ...] = ""


MAX_ALTERNATIVES: Final = 20
"""As many alternatives to a token as anybody may ask for; OpenAI's bound."""
PLAIN: Final = AnswerForm()
"""Text, and nothing more."""


class Token(NamedTuple):
    """One token of an answer.

    ``logprob`` is the natural logarithm of the probability that the model itself gave it: before
    temperature, penalties, cuts and masks. ``alternatives`` are the likeliest ids in its place with
    theirs, best first; they may hold the token itself. None and empty where they were not asked for.
    """

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


class AnswerScore(Struct, frozen=True, kw_only=True):
    """How likely the model itself finds ``text`` as a whole answer: its tokens to the end, ``</s>``, each
    with its log probability."""

    text: str
    tokens: tuple[Token, ...]

    @property
    def logprob(self) -> float:
        """The natural logarithm of its probability."""
        return math.fsum(token.logprob or 0.0 for token in self.tokens)

    @property
    def perplexity(self) -> float:
        """How many tokens the model would have to choose from, all equally likely, to be as unsure."""
        return math.exp(-self.logprob / len(self.tokens))


def likeliest_tokens(scores: Sequence[AnswerScore], *, logprobs: int) -> Sequence[Token]:
    """The tokens of the likeliest answer, with their log probabilities where these were asked for."""
    best = max(scores, key=lambda score: score.logprob).tokens
    return best if logprobs else [Token(token.id) for token in best]


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of an answer.

    The first chunk carries ``plan``, and the text and tokens of an answer that is begun already, before
    the prompt is processed; the last carries
    ``finish_reason``, ``usage``, the ``seed`` that was used, and the ``scores`` of the choices where they
    were asked for. Texts joined are the answer.
    ``token_count`` is how many tokens this chunk took, and ``tokens`` are they, where the engine knows
    their ids. The text of a token may come in a later chunk than the token, never in an earlier one.
    """

    text: str = ""
    token_count: int = 0
    tokens: tuple[Token, ...] = ()
    plan: PromptPlan | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    seed: int | None = None
    scores: tuple[AnswerScore, ...] = ()


class Job(Struct, frozen=True, kw_only=True, eq=False):
    """One answer that is wanted: to the last of ``messages``, or what follows ``prompt_ids`` as they are.

    Two jobs are never equal, whatever they ask.
    """

    messages: Sequence[Message] = ()
    prompt_ids: Sequence[int] = ()
    options: SamplingOptions
    form: AnswerForm = PLAIN


class Progress(Struct, frozen=True, kw_only=True):
    """What came of ``job``: the next chunk of its answer, or the error that ended it.

    The chunks of a job are those of :meth:`Engine.stream <tanuki_cli.engines.base.Engine.stream>`; the
    one with a ``finish_reason``, or an error, is its last.
    """

    job: Job
    chunk: Chunk | None = None
    error: TanukiError | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing more of the job will come."""
        return self.error is not None or (self.chunk is not None and self.chunk.finish_reason is not None)

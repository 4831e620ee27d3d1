"""What every engine is: messages in, chunks of text out; and what a local one runs on: token ids."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from tanuki_cli.conversation import FinishReason, Message, Usage
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, Job, Progress, PromptPlan, Token
from tanuki_cli.engines.consent import Consent, never
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

if TYPE_CHECKING:  # its import takes longer than most chats ever need it
    import numpy as np
    from numpy.typing import NDArray

    from tanuki_cli.engines.masks import LogitsMask

__all__ = [
    "PENALTY_WINDOW",
    "Answerer",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "GenerationCancelled",
    "OpenOptions",
    "Outcome",
    "ParallelModel",
    "Request",
    "TokenModel",
    "Usage",
    "shared_prefix",
    "token_ids",
]


PENALTY_WINDOW: Final = 64
"""The repeat penalty looks at so many of the last tokens, on every local engine, as llama.cpp's do."""


class GenerationCancelled(Exception):
    """:meth:`TokenModel.cancel` was called; the cache is consistent and the next call may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """What an engine may need to be opened, beside the model and the settings; each takes what it knows.

    ``consent`` is asked before code that came with a checkpoint is run. ``cache_folder`` keeps KV caches
    and tuning records between processes; None keeps nothing. ``first`` are the messages to be answered
    first, where they are known and likely the only ones: memory for more is then taken only when it is
    needed. ``announce_tuning`` is called before it is measured how a model runs best, which takes up to
    20 seconds; without it nothing is measured. ``report_trial`` hears of every trial, its name and seconds,
    and has them made although there is a record. ``debug`` lets the backend's own log through.

    For a server: ``served_tokenizers`` (tokenizer.json files, tried in turn, to send exact ids where it
    takes them), ``tokenizer_command`` (what gets Tanuki's own where it is not here), ``fetch_tokenizer``
    (asks the user, with the server's host, and fetches it; None if not), and where its API key may be: the
    variables ``environ`` and ``key_file``. A key that is bound to no name is only for a server
    ``named_by_user``: by its address, in this very run.
    """

    consent: Consent = never
    cache_folder: Path | None = None
    first: Sequence[Message] = ()
    announce_tuning: Callable[[], None] | None = None
    report_trial: Callable[[str, float], None] | None = None
    debug: bool = False
    served_tokenizers: Sequence[Path] = ()
    tokenizer_command: str = ""
    fetch_tokenizer: Callable[[str], Path | None] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None
    named_by_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What runs, for the status line and ``doctor``: e.g. ``tanuki-8b:q4_k_m``, ``llama.cpp``, ``CPU``."""

    model: str
    engine: str
    device: str


class Engine(Protocol):
    """A model one can talk to."""

    @property
    def info(self) -> EngineInfo:
        """What runs where."""

    @property
    def tokenizer(self) -> ChatTokenizer | None:
        """What makes the ids that the model is given; None where a server does that itself."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user about how the model was opened, e.g. that it runs on fewer layers."""

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What of ``messages`` would be sent, without running the model.

        Raises :class:`~tanuki_cli.errors.PromptTooLongError` if the newest message alone does not fit.
        """

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message, in the ``form`` that is asked for.

        An answer that was cut does not fit its shape: the caller looks at its text.

        Raises PromptTooLongError, EngineError or RemoteError; chunks already given stay valid.
        Closing the generator stops the model.
        """

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Go on from ``prompt_ids`` as they are, without a template; the first chunk's plan has no messages.

        Raises what :meth:`stream` raises; InputError for ids that the model does not have, and where only a
        text can be sent.
        """

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """How likely each of ``answers`` is after ``messages``, with so many ``alternatives`` a token.

        Raises PromptTooLongError, EngineError or RemoteError, and GenerationCancelled after
        :meth:`cancel`.
        """

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> "Answerer":
        """This model for several answers at once, for ``places`` of them, or as many as fit and pay.

        ``interactive`` says that somebody reads each answer as it comes; otherwise only the time that all
        take together counts.

        The engine is the answerer's from now on, :meth:`close` as well. Raises EngineError where there is
        not the memory for so many.
        """

    def cancel(self) -> None:
        """Ask the running stream to stop soon; safe to call from a signal handler.

        The stream then ends with a chunk whose ``finish_reason`` is "interrupted".
        """

    def close(self) -> None:
        """Free the model. May be called twice."""


class Answerer(Protocol):
    """A model that several jobs share.

    For one thread, except that :meth:`drop` and :meth:`cancel` may come from any, and from a signal
    handler.
    """

    @property
    def places(self) -> int:
        """How many jobs are worked on at a time; those after them wait, in the order they were added."""

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""

    def add(self, job: Job) -> None:
        """Take ``job``."""

    def advance(self) -> list[Progress]:
        """Work until there is something new of any job; nothing where there is no job left.

        What is wrong with one job is an error of that job. Raises EngineError where the model itself fails,
        and GenerationCancelled after :meth:`cancel`; all jobs are gone then.
        """

    def drop(self, job: Job) -> None:
        """Forget ``job``: nothing of it comes any more, and its place is free at the next step. It may have
        ended already."""

    def cancel(self) -> None:
        """Make the running :meth:`advance`, or the next, raise GenerationCancelled soon; only sets a flag."""

    def close(self) -> None:
        """Forget all jobs and free the model. May be called twice."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
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
    """How many ids both begin with."""
    pairs = zip(first, second, strict=False)
    shorter = min(len(first), len(second))
    return next((index for index, (one, other) in enumerate(pairs) if one != other), shorter)

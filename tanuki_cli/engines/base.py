"""What every engine is: messages in, chunks of text out."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, Job, Progress, PromptPlan
from tanuki_cli.engines.consent import Consent, never
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

Use = Literal["once", "chat", "many"]
"""What a model is loaded for: one question, a conversation, or many questions in any order."""


class GenerationCancelled(Exception):
    """``cancel`` of a model was called; the cache is consistent and the next call may follow."""


class OpenOptions(Struct, frozen=True, kw_only=True):
    """What an engine may need to be opened, beside the model and the settings; each takes what it knows.

    ``consent`` is asked before code that came with a checkpoint is run. ``cache_folder`` keeps KV caches
    and tuning records between processes; None keeps nothing. ``first`` are the messages to be answered
    first, where they are known and likely the only ones: memory for more is then taken only when it is
    needed. ``use`` says what else is to come: what loads slowly and computes fast is not for one question.
    ``announce_tuning`` is called, with the seconds that it takes at most, before it is measured how a model
    runs best; without it nothing is measured. ``report_trial`` is told every trial and what came of it, a
    line each, and has them made although there is a record. ``debug`` lets the backend's own log through.

    For a server: ``served_tokenizers`` (tokenizer.json files, tried in turn, to send exact ids where it
    takes them), ``tokenizer_command`` (what gets Tanuki's own where it is not here), ``fetch_tokenizer``
    (asks the user, with the server's host, and fetches it; None if not), and where its API key may be: the
    variables ``environ`` and ``key_file``. A key that is bound to no name is only for a server
    ``named_by_user``: by its address, in this very run.
    """

    consent: Consent = never
    cache_folder: Path | None = None
    first: Sequence[Message] = ()
    use: Use = "chat"
    announce_tuning: Callable[[int], None] | None = None
    report_trial: Callable[[str], None] | None = None
    debug: bool = False
    served_tokenizers: Sequence[Path] = ()
    tokenizer_command: str = ""
    fetch_tokenizer: Callable[[str], Path | None] | None = None
    environ: Mapping[str, str] = {}
    key_file: Path | None = None
    named_by_user: bool = False


class EngineInfo(Struct, frozen=True, kw_only=True):
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

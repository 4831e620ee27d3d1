"""A chat whose model was closed and could not be loaded again: it stays, and says what to do."""

from collections.abc import Generator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, PromptPlan
from tanuki_cli.engines.base import Answerer, EngineInfo
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.sampling import SamplingOptions


class NoModel(Struct, frozen=True, kw_only=True):
    """Implements :class:`~tanuki_cli.engines.base.Engine` in the place of the model ``reference``.

    Whatever asks it for an answer gets one sentence, and the command that loads that model again.
    """

    reference: str
    context_length: int
    tokenizer: None = None
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> EngineInfo:
        """Nothing runs anywhere."""
        return EngineInfo(model=_("no model"), engine="-", device="-")

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """Raises EngineError."""
        raise self._error()

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Raises EngineError."""
        raise self._error()

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Raises EngineError."""
        raise self._error()

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """Raises EngineError."""
        raise self._error()

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        """Raises EngineError."""
        raise self._error()

    def cancel(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""

    def _error(self) -> EngineError:
        return EngineError(_("No model is loaded."), hint=f"/model {self.reference}")


def without_model(old: LoadedModel) -> LoadedModel:
    """What takes the place of ``old``, which is closed."""
    engine = NoModel(reference=old.reference, context_length=old.engine.context_length)
    return replace(old, engine=engine, practice=False, remote=False)

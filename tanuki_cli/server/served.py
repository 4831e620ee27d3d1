"""The model that is served, as requests need to know it. It outlives the weights, which may be freed."""

from msgspec import Struct

from tanuki_cli.catalog import LocalModel
from tanuki_cli.loading import LoadedModel
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.server.faults import ApiError
from tanuki_cli.tokenizer import ChatTokenizer


class ServedModel(Struct, frozen=True, kw_only=True):
    """``name`` is what clients call it, ``names`` what else it is called by those who start it.

    More than ``max_characters`` never fit the context. ``defaults`` hold for what a request leaves out.
    ``tokenizer`` is None, and ``takes_ids`` False, for a model that another server runs and tokenises.
    ``created`` is in seconds since 1970.
    """

    name: str
    names: frozenset[str]
    engine: str
    device: str
    tokenizer: ChatTokenizer | None
    takes_ids: bool
    context_length: int
    max_characters: int
    defaults: SamplingOptions
    created: int

    @property
    def exact(self) -> ChatTokenizer:
        """The tokenizer. Raises ApiError where another server tokenises."""
        if self.tokenizer is None or not self.takes_ids:
            raise ApiError(400, "This model is run by another server: only its chat endpoint can be used.")
        return self.tokenizer

    def check_name(self, name: str | None) -> None:
        """Raise ApiError, 404, if a request names another model."""
        if name and name != self.name and name not in self.names:
            message = f"The model {name!r:.100} does not exist; this server has: {self.name}"
            raise ApiError(404, message, param="model", code="model_not_found")


def _name(loaded: LoadedModel) -> str:
    """What clients call the model: a file's own name, without its folders, and a server's in the settings."""
    if isinstance(loaded.target, LocalModel):
        local = loaded.target.repository is None and not loaded.practice
        return loaded.target.path.name if local else loaded.engine.info.model
    named = "://" not in loaded.target.name
    return loaded.target.name if named else loaded.engine.info.model


def served(loaded: LoadedModel, defaults: SamplingOptions, *, created: int) -> ServedModel:
    """What clients are told about ``loaded``."""
    engine = loaded.engine
    longest = max(map(len, engine.tokenizer.pieces), default=1) if engine.tokenizer is not None else 1
    name = _name(loaded)
    return ServedModel(
        name=name,
        names=frozenset(
            (engine.info.model, loaded.reference, loaded.reference.lower(), "tanuki", "default", "auto")
        ),
        engine=engine.info.engine,
        device=engine.info.device,
        tokenizer=engine.tokenizer,
        takes_ids=not loaded.remote,
        context_length=engine.context_length,
        # A token stands for one piece, and NFKC makes at least one character of four.
        max_characters=4 * longest * engine.context_length,
        defaults=defaults,
        created=created,
    )

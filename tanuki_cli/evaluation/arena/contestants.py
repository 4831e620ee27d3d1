"""The models of an arena: who they are, and which of them can be in memory at the same time."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel, Target
from tanuki_cli.engines.answering import AnsweringEngine
from tanuki_cli.engines.base import Answerer
from tanuki_cli.errors import EngineError, InputError
from tanuki_cli.evaluation.provenance import DigestMemory, ModelSource, model_digest, model_files
from tanuki_cli.evaluation.sources import source_of
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import Machine

_SHARE_OF_FILES: Final = 1.25
_BYTES_BESIDES: Final = 512 << 20
"""A loaded model takes its files, and about this much for cache, buffers and tokenizer."""


class Contestant(Struct, frozen=True, kw_only=True):
    """A model under the name it is rated by; ``identity`` is its digest, or the address of its server."""

    name: str
    target: Target
    identity: str
    file_bytes: int = 0


def find_contestants(
    references: Sequence[str],
    find: Callable[[str], Target],
    memory: DigestMemory,
    *,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Contestant]:
    """The models that ``references`` name. ``progress`` is told of bytes that are read for digests.

    Raises what ``find`` raises, InputError if there are fewer than two or one is named twice, EngineError
    if files cannot be read.
    """
    found = []
    for reference in references:
        target = find(reference)
        name = target.name if reference == "auto" else reference
        found.append(_contestant(name, target, memory, progress))
    names = [one.name for one in found]
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(
            _("An arena needs at least two models, each named once."),
            hint="tanuki arena tanuki-8b:q4_k_m tanuki-8b:q8_0",
        )
    return found


def _contestant(
    name: str, target: Target, memory: DigestMemory, progress: Callable[[int], None]
) -> Contestant:
    if not isinstance(target, LocalModel):
        return Contestant(name=name, target=target, identity=f"{target.base_url}#{target.served_name or ''}")
    try:
        digest = model_digest(target.path, memory, progress=progress)
        size = sum(file.stat().st_size for file in model_files(target.path))
    except OSError as exc:
        raise EngineError(
            _("The files of {model} cannot be read: {reason}").format(model=name, reason=os_reason(exc)),
            hint="tanuki doctor",
        ) from exc
    return Contestant(name=name, target=target, identity=digest, file_bytes=size)


def fit_together(contestants: Sequence[Contestant], machine: Machine) -> bool:
    """Whether all of them can be loaded at once: by the size of their files, on the GPU if there is one."""
    needs = [
        one.file_bytes * _SHARE_OF_FILES + _BYTES_BESIDES
        for one in contestants
        if isinstance(one.target, LocalModel) and not one.target.practice
    ]
    free = machine.free_vram_bytes or machine.available_ram_bytes
    return len(needs) < 2 or sum(needs) <= free


class Roster:
    """Loads the models as they are needed; with ``together`` False at most one local one is kept."""

    def __init__(
        self,
        load: Callable[[str], LoadedModel],
        memory: DigestMemory,
        *,
        together: bool,
    ) -> None:
        self.together = together
        self._load = load
        self._memory = memory
        self._loaded: dict[str, LoadedModel] = {}
        self._sources: dict[str, ModelSource] = {}

    def __enter__(self) -> "Roster":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def model(self, contestant: Contestant) -> LoadedModel:
        """``contestant``, loaded. Raises what loading raises."""
        found = self._loaded.get(contestant.name)
        if found is None:
            if not self.together and isinstance(contestant.target, LocalModel):
                self._free_local()
            found = self._loaded[contestant.name] = self._load(contestant.name)
            self._sources[contestant.name] = source_of(found, self._memory)
        return found

    def answerer(self, contestant: Contestant, places: int | None) -> Answerer:
        """``contestant``, loaded, for ``places`` answers at a time, or as many as pay.

        What it is asked singly afterwards goes the same way. Raises what loading raises.
        """
        model = self.model(contestant)
        if not isinstance(model.engine, AnsweringEngine):
            engine = AnsweringEngine(model.engine, model.engine.answerer(places))
            self._loaded[contestant.name] = replace(model, engine=engine)
            return engine.with_answerer
        return model.engine.with_answerer

    def source(self, contestant: Contestant) -> ModelSource:
        """What is written down of ``contestant``; it is loaded for that if it never was."""
        if contestant.name not in self._sources:
            self.model(contestant)
        return self._sources[contestant.name]

    def ready(self, contestants: Sequence[Contestant]) -> bool:
        """Whether all of ``contestants`` are loaded, or can be without freeing another."""
        local = [one for one in contestants if isinstance(one.target, LocalModel)]
        return self.together or len(local) < 2

    def sooner(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """``contestants`` in the order that loads least: what is in memory comes first."""
        return sorted(contestants, key=lambda one: one.name not in self._loaded)

    def close(self) -> None:
        """Free all of them."""
        while self._loaded:
            self._loaded.popitem()[1].close()

    def _free_local(self) -> None:
        for name, model in list(self._loaded.items()):
            if isinstance(model.target, LocalModel):
                self._loaded.pop(name).close()

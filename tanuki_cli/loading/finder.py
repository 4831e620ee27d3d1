"""From a model reference to its files or its server: what is here, and what would have to come."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tanuki_cli.catalog import (
    TANUKI_8B,
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    LocalModel,
    MemoryPlan,
    PathReference,
    PracticeReference,
    RemoteModel,
    Target,
    Variant,
    best_installed,
    parse_reference,
    recommend,
)
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.installed import installed_engines, practice_command
from tanuki_cli.errors import ModelError
from tanuki_cli.hub import Hub, InstalledModel, refusal
from tanuki_cli.i18n import _
from tanuki_cli.loading.asker import Asker, Offer
from tanuki_cli.loading.fetching import fetch
from tanuki_cli.loading.obstacle import lasting_obstacle, obstacle
from tanuki_cli.machine.hardware import free_disk_bytes, inspect_machine
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH, Directories, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInstalled:
    """A model that has to be downloaded first; ``reason`` says why it is the recommended one."""

    reference: Downloadable
    reason: str = ""


class Finder:
    """Looks a reference up on this machine, and asks before anything is downloaded."""

    def __init__(
        self, settings: Settings, *, environ: Mapping[str, str], directories: Directories, asker: Asker
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._asker = asker
        self.hub = Hub.from_environment(environ, directories, offline=settings.offline)

    def find(self, text: str) -> Target:
        """The files or the server that ``text`` names. Raises ModelError or DownloadError."""
        found = self.look_up(text)
        return self._fetch(found) if isinstance(found, NotInstalled) else found

    def look_up(self, text: str) -> Target | NotInstalled:
        """What ``text`` names, or what would have to be downloaded for it; asks nobody.

        Raises ModelError for an unknown name, and if no variant can run here.
        """
        try:
            reference = parse_reference(text, self._settings.remotes)
        except ModelError as exc:
            if Path(text).exists():  # what lies here is named by its path, as a command of the shell is
                raise ModelError(exc.message, hint=f"-m {shlex.quote(f'./{text}')}") from exc
            raise
        if isinstance(reference, RemoteModel):
            return reference
        if isinstance(reference, PracticeReference):
            return practice_model()
        if isinstance(reference, AutoReference):
            return self._best_of(None)
        if isinstance(reference, FamilyReference):
            return self._best_of(reference.family)
        located = self.hub.locate(reference)
        if located is not None:
            return located
        if isinstance(reference, PathReference):
            raise ModelError(
                _("There is no model at {path}.").format(path=reference.path), hint="tanuki models"
            )
        if isinstance(reference, Variant) and reference.refused:
            raise refusal(reference)  # before anybody is asked, or waits for a download
        return NotInstalled(reference=reference)

    def offer(self, missing: NotInstalled) -> Offer:
        """What the download of ``missing`` would mean."""
        reference = missing.reference
        machine = inspect_machine(self._environ)
        variant = reference if isinstance(reference, Variant) else None
        begun = self.hub.missing_bytes(reference)
        total = variant.approximate_bytes if variant else None
        plan = memory_plan(self._settings)
        return Offer(
            name=reference.name,
            reason=missing.reason,
            obstacle=obstacle(variant, machine, plan) if variant else "",
            lasting_obstacle=lasting_obstacle(variant, machine, plan) if variant else "",
            machine=machine,
            bytes_to_receive=total if begun is None else begun,
            begun=begun is not None,
            free_disk_bytes=free_disk_bytes(self.hub.cache.root),
            bytes_per_s=self.hub.last_speed,
        )

    def family_tokenizer(self) -> Path | None:
        """Tanuki's own tokenizer.json, if it was ever fetched."""
        return self.hub.reference_tokenizer(TANUKI_8B)

    def best_or_recommended(self, family: Family | None) -> InstalledModel | NotInstalled:
        """The installed variant that suits this machine best, else the recommended one with the reason.

        ``family`` None counts everything that is installed. Raises ModelError if nothing can run here.
        """
        machine, engines = inspect_machine(self._environ), installed_engines()
        plan = memory_plan(self._settings)
        installed = {
            entry.reference: entry
            for entry in self.hub.installed()
            if isinstance(entry.reference, Variant) and family in (None, entry.reference.family)
        }
        if best := best_installed(list(installed), machine, engines, plan):
            return installed[best]
        choice = recommend(machine, engines, plan, family=family or TANUKI_8B)
        if choice.variant is not None:
            return NotInstalled(reference=choice.variant, reason=choice.reason)
        if family is not None and family.cuda_only:
            hint = _("Serve it with a vLLM built for it: tanuki chat -m http://host:8000/v1")
        else:
            hint = practice_command()
        raise ModelError(choice.reason, hint=hint)

    def _best_of(self, family: Family | None) -> LocalModel | NotInstalled:
        choice = self.best_or_recommended(family)
        return choice.model if isinstance(choice, InstalledModel) else choice

    def _fetch(self, missing: NotInstalled) -> LocalModel:
        if self._settings.offline or not self._asker.may_download(self.offer(missing)):
            raise not_installed(missing.reference)
        return fetch(self.hub, missing.reference, self._asker).model


def memory_plan(settings: Settings) -> MemoryPlan:
    """What ``settings`` mean for the memory of a model that is not opened yet."""
    return MemoryPlan(
        context_length=settings.context_length or DEFAULT_CONTEXT_LENGTH,
        kv_type="q8_0" if settings.kv_type == "q8_0" else "f16",
        gpu_layers=settings.gpu_layers,
    )


def not_installed(reference: Downloadable) -> ModelError:
    """``reference`` would have to be downloaded, and that is not wanted or not allowed."""
    return ModelError(
        _("The model {name} is not installed.").format(name=reference.name),
        hint=_("tanuki pull {name}   (or, at once and offline: -m mame)").format(name=reference.name),
    )

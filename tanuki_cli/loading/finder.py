"""From a model reference to its files or its server: what is here, and what would have to come."""

import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tanuki_cli.catalog import (
    TANUKI_8B,
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    LocalModel,
    PathReference,
    PracticeReference,
    RemoteModel,
    Target,
    Variant,
    parse_reference,
)
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.errors import ModelError
from tanuki_cli.i18n import _
from tanuki_cli.loading.asker import Asker, NotInstalled, Offer
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.settings.values import Directories, Settings

if TYPE_CHECKING:
    from tanuki_cli.hub import Hub, InstalledModel, Progress


class Finder:
    """Looks a reference up on this machine, and asks before anything is downloaded."""

    def __init__(
        self, settings: Settings, *, environ: Mapping[str, str], directories: Directories, asker: Asker
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._asker = asker
        self._directories = directories

    @cached_property
    def hub(self) -> "Hub":
        """The hub's cache on this machine; many models are not in it, and most loads need no more of it."""
        from tanuki_cli.hub import Hub

        return Hub.from_environment(self._environ, self._directories, offline=self._settings.offline)

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
            from tanuki_cli.hub import refusal

            raise refusal(reference)  # before anybody is asked, or waits for a download
        return NotInstalled(reference=reference)

    def offer(self, missing: NotInstalled) -> Offer:
        """What the download of ``missing`` would mean."""
        from tanuki_cli.loading.offers import (
            make_offer,  # looks at engines and machine; most loads need neither
        )

        return make_offer(missing, self.hub, settings=self._settings, environ=self._environ)

    def family_tokenizer(self) -> Path | None:
        """Tanuki's own tokenizer.json, if it was ever fetched."""
        return self.hub.reference_tokenizer(TANUKI_8B)

    def best_or_recommended(self, family: Family | None) -> "InstalledModel | NotInstalled":
        """The installed variant that suits this machine best, else the recommended one with the reason.

        ``family`` None counts everything that is installed. Raises ModelError if nothing can run here.
        """
        from tanuki_cli.loading.offers import best_installed_or_recommended

        return best_installed_or_recommended(self.hub, family, settings=self._settings, environ=self._environ)

    def _best_of(self, family: Family | None) -> LocalModel | NotInstalled:
        choice = self.best_or_recommended(family)
        return choice if isinstance(choice, NotInstalled) else choice.model

    def _fetch(self, missing: NotInstalled) -> LocalModel:
        if self._settings.offline or not self._asker.may_download(self.offer(missing)):
            raise not_installed(missing.reference)
        return fetch(self.hub, missing.reference, self._asker).model


def not_installed(reference: Downloadable) -> ModelError:
    """``reference`` would have to be downloaded, and that is not wanted or not allowed."""
    return ModelError(
        _("The model {name} is not installed.").format(name=reference.name),
        hint=_("tanuki pull {name}   (or, at once and offline: -m mame)").format(name=reference.name),
    )


def fetch(
    hub: "Hub", reference: Downloadable, asker: Asker, *, revision: str | None = None, verify: bool = False
) -> "InstalledModel":
    """Pull ``reference``, with the progress shown by ``asker``. Raises as :meth:`Hub.pull`."""
    before = hub.locate(reference)
    worked = False
    with asker.progress() as show:

        def update(progress: "Progress") -> None:
            nonlocal worked
            worked = True
            show(progress)

        installed = hub.pull(reference, revision=revision, verify=verify, on_progress=update)
    facts = {
        "name": reference.name,
        "size": format_bytes(installed.size),
        "revision": installed.commit[:7],
    }
    if before is not None and before.path == installed.model.path and not worked:
        asker.note(_("{name} is whole: {size}, revision {revision}.").format(**facts))
    else:
        asker.note(_("{name} is ready: {size}, revision {revision}.").format(**facts), kind="success")
    return installed


def fetch_tokenizer(hub: "Hub", family: Family, asker: Asker, *, verify: bool = False) -> Path:
    """Fetch the family's tokenizer.json alone, with the progress shown. Raises as :meth:`Hub.pull`."""
    with asker.progress() as show:
        path = hub.pull_tokenizer(family, verify=verify, on_progress=show)
    size = format_bytes(path.stat().st_size)
    asker.note(
        _("The tokenizer of {name} is ready: {size}.").format(name=family.name, size=size), kind="success"
    )
    return path

"""The Hugging Face hub: find models in its cache, download them, remove them.

Everything but :meth:`Hub.pull` and :meth:`Hub.remote_sizes` works on this machine only, and only
these two import huggingface_hub.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tanuki_cli.catalog import VARIANTS, Downloadable, Family, LocalModel, PathReference, Variant
from tanuki_cli.errors import ModelError
from tanuki_cli.hub.files import Cache, cache_directory
from tanuki_cli.hub.local import (
    InstalledModel,
    all_installed,
    find_installed,
    find_tokenizer,
    find_verified,
    open_path,
)
from tanuki_cli.hub.progress import OnProgress, Progress, ignore_progress
from tanuki_cli.hub.records import Records
from tanuki_cli.i18n import _
from tanuki_cli.settings.values import Directories

__all__ = ["Hub", "InstalledModel", "OnProgress", "Progress", "ignore_progress", "refusal"]

_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)


class Hub:
    """The cache and what tanuki remembers of it."""

    def __init__(
        self, *, cache: Cache, records: Records, offline: bool = False, waits: tuple[float, ...] = _WAITS
    ) -> None:
        """``offline`` forbids the network; ``waits`` are the seconds before each new try of a download."""
        self.cache = cache
        self._records = records
        self._offline = offline
        self._waits = waits

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        directories: Directories,
        *,
        offline: bool,
        waits: tuple[float, ...] = _WAITS,
    ) -> "Hub":
        """The hub's cache of this user, by ``HF_HUB_CACHE``, ``HF_HOME`` or its default place."""
        return cls(
            cache=Cache(cache_directory(environ)),
            records=Records(directories.state / "downloads.json"),
            offline=offline,
            waits=waits,
        )

    def locate(self, reference: Downloadable | PathReference) -> LocalModel | None:
        """The model on this machine, or None if it is not whole; quick, reads no weights.

        Raises ModelError for a path without a model.
        """
        if isinstance(reference, PathReference):
            return open_path(self.cache, reference)
        found = find_installed(self.cache, self._records.pinned(reference.name), reference)
        return None if found is None else found.model

    def installed(self) -> list[InstalledModel]:
        """Every whole model of the catalog, and what was pulled from elsewhere on the hub."""
        return all_installed(self.cache, self._records)

    def is_verified(self, installed: InstalledModel) -> bool:
        """Whether every file of a model was hashed, and not written since; reads no weights."""
        pinned = self._records.pinned(installed.reference.name)
        return pinned is not None and all(
            self.cache.is_whole(file) and self._records.is_verified(self.cache.path(file), file.digest)
            for file in pinned.files
        )

    def missing_bytes(self, reference: Downloadable) -> int | None:
        """What a pull begun earlier still has to receive; None for one that never began."""
        pinned = self._records.pinned(reference.name)
        if pinned is None:
            return None
        missing = [file for file in pinned.files if not self.cache.is_whole(file)]
        return sum(max(file.size - self.cache.received(file), 0) for file in missing)

    @property
    def last_speed(self) -> float | None:
        """Bytes per second of the last long download on this machine, if there was one."""
        return self._records.speed()

    def reference_tokenizer(self, family: Family) -> Path | None:
        """The family's tokenizer.json, if it was ever fetched."""
        return find_tokenizer(self.cache, family.reference_repository)

    def pull(
        self,
        reference: Downloadable,
        *,
        revision: str | None = None,
        verify: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> InstalledModel:
        """Make a model whole on this machine, pinned to a commit, every file's digest checked.

        A model that is whole already is returned at once, without a request, unless a ``revision``
        (branch, tag or commit) is given. ``verify`` reads every file again and replaces damaged ones.
        Raises ModelError for a model that cannot be run, DownloadError for everything that network and
        disk may do, InterruptedByUser at Ctrl-C; what was received stays, and the next pull resumes.
        """
        if isinstance(reference, Variant) and reference.refused:
            raise refusal(reference)
        untouched = find_verified(self.cache, self._records, reference)
        if untouched is not None and revision is None and not verify:
            return untouched
        from tanuki_cli.hub.download import Pull

        pull = Pull(self.cache, self._records, reference, on_progress=on_progress, waits=self._waits)
        return pull.run(revision=revision, verify=verify, offline=self._offline)

    def pull_tokenizer(
        self, family: Family, *, verify: bool = False, on_progress: OnProgress = ignore_progress
    ) -> Path:
        """Fetch the family's tokenizer.json alone, its digest checked. Raises as :meth:`pull`."""
        from tanuki_cli.hub.download import Pull

        reference = next(
            variant
            for variant in VARIANTS
            if variant.family == family and variant.repository == family.reference_repository
        )
        pull = Pull(
            self.cache,
            self._records,
            reference,
            on_progress=on_progress,
            waits=self._waits,
            command_name=family.tokenizer_command.removeprefix("tanuki pull "),
        )
        return pull.run_tokenizer(family, verify=verify, offline=self._offline)

    def check_removable(self, reference: Downloadable) -> None:
        """Raise ModelError if there is nothing of a model here, not even an unfinished file."""
        from tanuki_cli.hub.removal import check_removable

        check_removable(self.cache, self._records, reference)

    def remove(self, reference: Downloadable) -> int:
        """Delete a model, finished or not, and return the bytes freed; files that others need stay.

        Raises ModelError if there is nothing of it.
        """
        from tanuki_cli.hub.removal import remove_model

        return remove_model(self.cache, self._records, reference)

    def remote_sizes(self, variants: Iterable[Variant]) -> dict[str, int]:
        """Bytes of each variant by name, asked of the hub; those that it lacks are left out.

        Raises DownloadError if the hub cannot be asked.
        """
        from tanuki_cli.hub.sizes import remote_sizes

        return remote_sizes(variants, offline=self._offline, waits=self._waits)


def refusal(variant: Variant) -> ModelError:
    """Why ``variant`` is not run here, and the way out."""
    return ModelError(
        _("{name} is refused. {reason}").format(name=variant.name, reason=_(variant.caveat or "")),
        hint=_(
            "Serve it with a vLLM built for it (tanuki chat -m http://host:8000/v1), or take {other} "
            "on NVIDIA GPUs."
        ).format(other=f"{variant.family.name}:gptq-4bit"),
    )

"""Removing a model from the cache, and nothing that another one needs."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tanuki_cli.catalog import Downloadable, part_names
from tanuki_cli.errors import ModelError
from tanuki_cli.files import real_path
from tanuki_cli.hub.files import Cache, disk_fault
from tanuki_cli.hub.local import TOKENIZER, all_installed, reference_repository
from tanuki_cli.hub.records import Records
from tanuki_cli.i18n import _


def remove_model(cache: Cache, records: Records, reference: Downloadable) -> int:
    """Delete the files of ``reference``, of every commit, finished or not; returns the bytes freed.

    Files that another whole model consists of, such as the tokenizer, stay. Raises ModelError if there
    is nothing of it, DownloadError if the disk refuses.
    """
    check_removable(cache, records, reference)
    others = [model for model in all_installed(cache, records) if model.reference != reference]
    needed = {path for model in others for path in model.files}
    own = list(_own_files(cache, reference))
    partials = _partials(cache, records, reference)
    if not any(reference_repository(model.reference) == reference_repository(reference) for model in others):
        own += _tokenizers(cache, reference_repository(reference))
    repositories = {
        cache.repository(name) for name in (reference.repository, reference_repository(reference))
    }
    before = sum(map(_used, repositories))
    try:
        for path in partials:
            path.unlink(missing_ok=True)
        for path in dict.fromkeys(own):
            if path not in needed:
                path.unlink()
        for repository in repositories:
            _sweep(repository)
    except OSError as exc:
        raise disk_fault(exc, Path(exc.filename or cache.root)) from exc
    records.forget(reference.name)
    return before - sum(map(_used, repositories))


def check_removable(cache: Cache, records: Records, reference: Downloadable) -> None:
    """Raise ModelError if there is nothing of ``reference`` here, not even an unfinished file."""
    if not any(True for _path in _own_files(cache, reference)) and not _partials(cache, records, reference):
        raise ModelError(
            _("{name} is not installed.").format(name=reference.name),
            hint=_("See what is installed: tanuki models"),
        )


def _own_files(cache: Cache, reference: Downloadable) -> Iterator[Path]:
    """The links of the model in all snapshots, but for a tokenizer that the whole family shares."""
    shared = reference.repository == reference_repository(reference)
    for commit in cache.commits(reference.repository):
        snapshot = cache.snapshot(reference.repository, commit)
        if reference.filename is not None:
            paths = (snapshot.joinpath(*name.split("/")) for name in part_names(reference.filename))
            yield from (path for path in paths if path.is_symlink() or path.is_file())
        else:
            files = (path for path in snapshot.rglob("*") if path.is_symlink() or path.is_file())
            yield from (path for path in files if not (shared and path == snapshot / TOKENIZER))


def _tokenizers(cache: Cache, repository: str) -> list[Path]:
    paths = (cache.snapshot(repository, commit) / TOKENIZER for commit in cache.commits(repository))
    return [path for path in paths if path.is_symlink() or path.is_file()]


def _partials(cache: Cache, records: Records, reference: Downloadable) -> list[Path]:
    """Unfinished files in the model's repository that no other pull has begun, old commits' included."""
    others = (model for name, model in records.all_pinned().items() if name != reference.name)
    begun = {cache.partial(file) for model in others for file in model.files}
    folder = cache.repository(reference.repository) / "blobs"
    return [path for path in folder.glob("*.incomplete") if path not in begun and "." not in path.stem]


def _sweep(repository: Path) -> None:
    """Delete contents that no snapshot shows any more, and the folder itself if nothing is left."""
    snapshots = repository / "snapshots"
    linked = {real_path(path) for path in snapshots.rglob("*") if path.is_symlink()}
    blobs = repository / "blobs"
    for blob in blobs.iterdir() if blobs.is_dir() else ():
        if real_path(blob) not in linked and blob.suffix != ".incomplete":
            blob.unlink()
    for folder in sorted(_folders(snapshots), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(_files(snapshots)) and not any(blobs.glob("*.incomplete")):
        shutil.rmtree(repository, ignore_errors=True)


def _folders(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())


def _files(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*") if path.is_symlink() or path.is_file())


def _used(folder: Path) -> int:
    """Bytes of the regular files below ``folder``; links count nothing."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())

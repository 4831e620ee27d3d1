"""What a model consists of on the hub, pinned to a commit, and where that lies in the cache.

The layout is huggingface_hub's own, shared with every other program that uses it: ``blobs/`` holds
contents under the name of their digest, ``snapshots/<commit>/`` links to them under their file names.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from tanuki_cli.errors import DownloadError
from tanuki_cli.files import expand_home, os_reason
from tanuki_cli.i18n import _


class HubFile(Struct, frozen=True, kw_only=True):
    """One file of a repository at one commit.

    ``digest`` is the SHA-256 of a large file (``lfs``), else the git hash of its blob, both in hex.
    """

    repository: str
    commit: str
    path: str
    size: int
    digest: str
    lfs: bool


class PinnedModel(Struct, frozen=True, kw_only=True):
    """All files of a model, each at its commit. ``revision`` is what the user asked for."""

    name: str
    revision: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """The directory that huggingface_hub keeps models in, by the same variables, without importing it."""
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    chosen = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(expand_home(chosen)))


class Cache(Struct, frozen=True):
    """Paths inside the cache at ``root``; nothing is created by asking."""

    root: Path

    def repository(self, repository: str) -> Path:
        """The folder of one repository."""
        return self.root / "--".join(("models", *repository.split("/")))

    def snapshot(self, repository: str, commit: str) -> Path:
        """The folder that shows a repository's files as they were at ``commit``."""
        return self.repository(repository) / "snapshots" / commit

    def path(self, file: HubFile) -> Path:
        """Where ``file`` is found under its own name once it is whole."""
        return self.snapshot(file.repository, file.commit).joinpath(*file.path.split("/"))

    def blob(self, file: HubFile) -> Path:
        """Where the content of ``file`` is kept."""
        return self.repository(file.repository) / "blobs" / file.digest

    def partial(self, file: HubFile) -> Path:
        """What has been received of ``file`` so far."""
        return self.blob(file).with_name(f"{file.digest}.incomplete")

    def received(self, file: HubFile) -> int:
        """Bytes of :meth:`partial`."""
        try:
            return self.partial(file).stat().st_size
        except OSError:
            return 0

    def lock(self, file: HubFile) -> Path:
        """The lock that huggingface_hub, too, holds while it writes this blob."""
        return self.root / ".locks" / self.repository(file.repository).name / f"{file.digest}.lock"

    def is_whole(self, file: HubFile) -> bool:
        """The file is there with its full size; its content is not read."""
        try:
            return self.path(file).stat().st_size == file.size
        except OSError:
            return False

    def commits(self, repository: str) -> Iterator[str]:
        """Commits that have a snapshot here: that of ``main`` first, then the newest."""
        folder = self.repository(repository)
        try:
            snapshots = sorted(
                (folder / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True
            )
        except OSError:
            return
        try:
            main = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            main = ""
        names = [path.name for path in snapshots]
        yield from sorted(names, key=lambda name: name != main)


def disk_fault(exc: OSError, path: Path) -> DownloadError:
    """What the disk refused while ``path`` was written."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            _("The disk that holds {path} is full.").format(path=path),
            hint=_("Free some space or set HF_HOME to another disk; the next pull resumes."),
        )
    if exc.errno == errno.EFBIG:
        return DownloadError(
            _("The disk that holds {path} does not take files this large.").format(path=path),
            hint=_("Set HF_HOME to another disk."),
        )
    return DownloadError(
        _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
        hint=_("Set HF_HOME to a folder that you may write to."),
    )

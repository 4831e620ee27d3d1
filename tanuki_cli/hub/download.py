"""Pulling a model: list, check what is there, check the disk, receive the rest, link, remember."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from filelock import Timeout
from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # documented

from tanuki_cli.catalog import Downloadable, Family
from tanuki_cli.errors import DownloadError, InterruptedByUser
from tanuki_cli.files import real_path
from tanuki_cli.hub.client import DEFAULT_REVISION, HubClient
from tanuki_cli.hub.code import MAX_CODE_BYTES, code_names
from tanuki_cli.hub.faults import offline_error
from tanuki_cli.hub.files import Cache, HubFile, PinnedModel, disk_fault
from tanuki_cli.hub.local import (
    TOKENIZER,
    InstalledModel,
    find_installed,
    find_tokenizer,
    is_whole,
    reference_repository,
)
from tanuki_cli.hub.progress import Meter, OnProgress, Progress
from tanuki_cli.hub.records import Records
from tanuki_cli.hub.selection import own_tokenizer, select_files
from tanuki_cli.hub.transfer import Patience, has_digest, receive
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import format_bytes, free_disk_bytes

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_BRANCH: Final = re.compile(r"(?!.*\.\.)(?!/)[\w./-]+")
_LOCK_PATIENCE: Final = 0.2
_TELLING_BYTES: Final = 50_000_000
"""A shorter download says more about the connection's start than about its speed."""


class Pull:
    """One pull of ``reference`` into ``cache``. ``waits``: see :class:`~tanuki_cli.hub.transfer.Patience`."""

    def __init__(
        self,
        cache: Cache,
        records: Records,
        reference: Downloadable,
        *,
        on_progress: OnProgress,
        waits: tuple[float, ...],
        command_name: str | None = None,
    ) -> None:
        """``command_name`` follows ``tanuki pull`` in hints, where it is not the model's name."""
        self._cache = cache
        self._records = records
        self._reference = reference
        self._on_progress = on_progress
        self._meter = Meter(self._report_wait, "downloading", files_total=0, bytes_total=0)
        self._patience = Patience(waits=waits, notify=lambda fault: self._meter.wait(fault.message))
        self._client = HubClient(command_name or reference.name)

    def run(self, *, revision: str | None, verify: bool, offline: bool) -> InstalledModel:
        """Make the model whole; the hub is asked only if it is not, or a ``revision`` is given."""
        pinned = self._records.pinned(self._reference.name)
        installed = find_installed(self._cache, pinned, self._reference)
        offline = offline or constants.HF_HUB_OFFLINE
        if revision is not None or pinned is None or not is_whole(self._cache, pinned, self._reference):
            if offline and installed is not None and revision is None and not verify:
                return installed
            if offline:
                raise offline_error(self._reference.name)
            pinned = self._list(revision or self._known_revision(installed, pinned))
            self._records.pin(pinned)
        try:
            self._complete(pinned, verify=verify, offline=offline)
        except KeyboardInterrupt as exc:
            raise InterruptedByUser(
                _("Interrupted; what was received is kept."), hint=f"tanuki pull {self._reference.name}"
            ) from exc
        whole = find_installed(self._cache, pinned, self._reference)
        if whole is None:
            raise DownloadError(
                _("{name} is not whole: its repository lacks a file that the model needs.").format(
                    name=self._reference.name
                ),
                hint=f"tanuki pull {self._reference.name} --revision {DEFAULT_REVISION}",
            )
        return whole

    def run_tokenizer(self, family: Family, *, verify: bool, offline: bool) -> Path:
        """Fetch nothing but the tokenizer.json, for a model that runs elsewhere."""
        if offline or constants.HF_HUB_OFFLINE:
            if found := find_tokenizer(self._cache, family.reference_repository):
                return found
            raise DownloadError(
                _("The tokenizer of {name} is not here, and the network is not to be used.").format(
                    name=family.name
                ),
                hint=_("Without --offline, TANUKI_OFFLINE and HF_HUB_OFFLINE: {command}").format(
                    command=family.tokenizer_command
                ),
            )
        tokenizer = self._reference_tokenizer(())
        pinned = PinnedModel(name=self._reference.name, revision=DEFAULT_REVISION, files=(tokenizer,))
        try:
            self._complete(pinned, verify=verify, offline=False)
        except KeyboardInterrupt as exc:
            raise InterruptedByUser(
                _("Interrupted; what was received is kept."), hint=family.tokenizer_command
            ) from exc
        return self._cache.path(tokenizer)

    def _known_revision(self, installed: InstalledModel | None, pinned: PinnedModel | None) -> str:
        if pinned is not None:
            return pinned.revision
        return DEFAULT_REVISION if installed is None else installed.commit

    def _list(self, revision: str) -> PinnedModel:
        """What the model consists of at ``revision``, asked of the hub."""
        reference = self._reference
        listing = self._patience.persist(lambda: self._client.list_files(reference.repository, revision))
        files = select_files(reference, listing)
        tokenizer = own_tokenizer(reference, listing) or self._reference_tokenizer(listing)
        checkpoint = any(file.path.endswith(".safetensors") for file in files)
        code = self._code(listing) if checkpoint else ()
        return PinnedModel(name=reference.name, revision=revision, files=(tokenizer, *code, *files))

    def _code(self, listing: Sequence[HubFile]) -> Sequence[HubFile]:
        """The code files of a checkpoint. They are fetched, since each tells which others it needs."""
        listed = {file.path: file for file in listing}

        def read(name: str) -> str | None:
            file = listed.get(name)
            if file is None or file.size > MAX_CODE_BYTES:
                return None
            path = self._cache.path(file)
            if not (self._cache.is_whole(file) and self._records.is_verified(path, file.digest)):
                self._fetch(file)
            try:
                return path.read_text(encoding="utf-8", errors="replace")
            except OSError as exc:
                raise disk_fault(exc, path) from exc

        return [listed[name] for name in code_names(read) if name in listed]

    def _report_wait(self, progress: Progress) -> None:
        """While the model's files are still being found out there is no progress but waiting."""
        if progress.phase == "waiting":
            self._on_progress(progress)

    def _reference_tokenizer(self, listing: Sequence[HubFile]) -> HubFile:
        repository = reference_repository(self._reference)
        if repository != self._reference.repository or not listing:
            listing = self._patience.persist(lambda: self._client.list_files(repository, DEFAULT_REVISION))
        for file in listing:
            if file.path == TOKENIZER:
                return file
        raise DownloadError(
            _("{repository} has no tokenizer.json.").format(repository=repository),
            hint=_("Is {endpoint} a hub? HF_ENDPOINT names another.").format(endpoint=constants.ENDPOINT),
        )

    def _complete(self, pinned: PinnedModel, *, verify: bool, offline: bool) -> None:
        self._check(pinned, verify=verify)
        missing = [file for file in pinned.files if not self._cache.is_whole(file)]
        if missing and offline:
            raise offline_error(pinned.name)
        self._check_disk(missing)
        self._meter = Meter(
            self._on_progress,
            "downloading",
            files_total=len(missing),
            bytes_total=sum(file.size for file in missing),
        )
        started = time.monotonic()
        for file in missing:
            self._meter.begin(file.path)
            self._fetch(file)
            self._meter.finish_file()
        if self._meter.bytes_received >= _TELLING_BYTES:
            self._records.set_speed(self._meter.bytes_received / (time.monotonic() - started))
        if missing:
            self._remember_branch(pinned)

    def _check(self, pinned: PinnedModel, *, verify: bool) -> None:
        """Hash the files that are there but were never hashed, or all; drop those that are wrong."""
        doubtful = [
            file
            for file in pinned.files
            if self._cache.is_whole(file)
            and (verify or not self._records.is_verified(self._cache.path(file), file.digest))
        ]
        meter = Meter(
            self._on_progress,
            "checking",
            files_total=len(doubtful),
            bytes_total=sum(file.size for file in doubtful),
        )
        for file in doubtful:
            meter.begin(file.path)
            path = self._cache.path(file)
            try:
                right = has_digest(path, file, meter)
                if not right:
                    real_path(path).unlink()
                    path.unlink(missing_ok=True)
            except OSError as exc:
                raise disk_fault(exc, path) from exc
            if right:
                self._records.set_verified(path, file.digest)
            meter.finish_file()

    def _check_disk(self, missing: Sequence[HubFile]) -> None:
        needed = sum(max(file.size - self._cache.received(file), 0) for file in missing)
        try:
            free = free_disk_bytes(self._cache.root)
        except OSError as exc:
            raise disk_fault(exc, self._cache.root) from exc
        if needed > free:
            raise DownloadError(
                _("{name} needs {needed} more on the disk, but {path} has only {free} free.").format(
                    name=self._reference.name,
                    needed=format_bytes(needed),
                    path=self._cache.root,
                    free=format_bytes(free),
                ),
                hint=_("Free some space, take a smaller variant, or set HF_HOME to another disk."),
            )

    def _fetch(self, file: HubFile) -> None:
        blob = self._cache.blob(file)
        with self._locked(file):
            if not self._is_right(blob, file):
                unfinished = self._cache.partial(file)
                receive(self._client, file, unfinished, patience=self._patience, meter=self._meter)
                _move(unfinished, blob)
            self._link(file, blob)
        self._records.set_verified(self._cache.path(file), file.digest)

    def _is_right(self, blob: Path, file: HubFile) -> bool:
        """Whether another process has brought ``blob`` meanwhile, or left it without a link."""
        if not blob.is_file():
            return False
        right = has_digest(blob, file, self._meter)
        if not right:
            self._meter.count(-_size(blob))
        return right

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        """Hold the lock of the blob, so that two processes do not write the same file."""
        lock = self._cache.lock(file)
        with ExitStack() as stack:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                self._cache.blob(file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(WeakFileLock(lock, timeout=_LOCK_PATIENCE))
                except Timeout:
                    self._meter.wait(_("Another process is downloading this file."))
                    stack.enter_context(WeakFileLock(lock))
            except OSError as exc:
                raise disk_fault(exc, lock) from exc
            yield

    def _link(self, file: HubFile, blob: Path) -> None:
        """Show ``blob`` under its name in the snapshot; moved there where links cannot be made."""
        path = self._cache.path(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # In one step: another process that has just finished the same file may be looking for it.
            link = path.with_name(f"{path.name}.{os.getpid()}.link")
            try:
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(blob, path.parent))
            except OSError:
                blob.replace(path)
            else:
                link.replace(path)
        except OSError as exc:
            raise disk_fault(exc, path) from exc

    def _remember_branch(self, pinned: PinnedModel) -> None:
        """Let other programs that read the cache find the commit by the name of its branch."""
        if _COMMIT.fullmatch(pinned.revision) or not _BRANCH.fullmatch(pinned.revision):
            return
        commit = next(file.commit for file in pinned.files if file.repository == self._reference.repository)
        path = self._cache.repository(self._reference.repository) / "refs" / pinned.revision
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit, encoding="ascii")
        except OSError as exc:
            raise disk_fault(exc, path) from exc


def _move(unfinished: Path, blob: Path) -> None:
    try:
        unfinished.replace(blob)
    except OSError as exc:
        raise disk_fault(exc, blob) from exc


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

"""What a comparison has done so far, so that it goes on after Ctrl-C and kills.

One file for each model and passage, written under another name and renamed: a record is whole or is not
there, and no passage can count twice. The folder is named by everything that decides the figures, so that
nothing of another comparison can be taken for this one's. It is removed when the result has been given.
"""

import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout
from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason, read_bounded, replacing, write_atomically
from tanuki_cli.i18n import _

if TYPE_CHECKING:
    from types import TracebackType

    from tanuki_cli.engines.probabilities import Floats
    from tanuki_cli.evaluation.compare.divergence import Ids

_MOST_NOTE: Final = 16 << 20
_KEPT_S: Final = 14 * 24 * 3600
"""What was broken off and not gone on with for so long is removed."""


class PassageScores(Struct, frozen=True, kw_only=True):
    """What a model gave at the scored places of a passage; ``kl`` is all zero for the reference.

    ``seconds`` is what computing the ``tokens`` of the passage took.
    """

    kl: "Floats"
    nll: "Floats"
    top: "Ids"
    tokens: int
    seconds: float


class RunStore:
    """The folder of one comparison below ``root``. Use as a context manager; one process at a time.

    Every method raises InputError where the disk does not do.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        text = json.dumps(identity, ensure_ascii=False, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._lock = FileLock(root / f"{self.folder.name}.lock", timeout=0)

    def __enter__(self) -> "RunStore":
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire()
            os.utime(self.folder)
            for leftover in self.folder.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
        except Timeout as exc:
            raise InputError(
                _("This comparison is running in another process."), hint=_("Wait until it has ended.")
            ) from exc
        except OSError as exc:
            raise self._error(exc) from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._lock.release()

    @property
    def nbytes(self) -> int:
        """How much is kept."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def scores(self, model: int, passage: int, *, places: int) -> PassageScores | None:
        """What was kept of a passage; None unless it is whole and has so many places."""
        try:
            with np.load(self._path("scores", model, passage, ".npz"), allow_pickle=False) as kept:
                found = PassageScores(
                    kl=kept["kl"],
                    nll=kept["nll"],
                    top=kept["top"],
                    tokens=int(kept["tokens"]),
                    seconds=float(kept["seconds"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return found if len(found.kl) == len(found.nll) == len(found.top) == places else None

    def keep_scores(self, model: int, passage: int, scores: PassageScores) -> None:
        """Keep what a model gave."""
        path = self._path("scores", model, passage, ".npz")
        try:
            with replacing(path, durable=False) as file:
                np.savez(
                    file,
                    kl=scores.kl,
                    nll=scores.nll,
                    top=scores.top,
                    tokens=np.int64(scores.tokens),
                    seconds=np.float64(scores.seconds),
                )
        except OSError as exc:
            raise self._error(exc) from exc

    def distributions(self, passage: int) -> Path:
        """Where the reference's distributions of a passage are kept."""
        return self._path("reference", 0, passage, ".dist")

    def note(self, name: str) -> dict[str, Any] | None:
        """A small JSON object that was kept under ``name``; None if there is none."""
        with suppress(OSError, ValueError, RecursionError):
            value = json.loads(read_bounded(self.folder / f"{name}.json", limit=_MOST_NOTE))
            return value if isinstance(value, dict) else None
        return None

    def keep_note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a small JSON object under ``name``."""
        try:
            write_atomically(self.folder / f"{name}.json", json.dumps(value))
        except OSError as exc:
            raise self._error(exc) from exc

    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self.folder).free

    def discard(self) -> None:
        """Remove everything, and what other comparisons left that nobody went on with."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.glob("*"):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _KEPT_S:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()

    def _path(self, kind: str, model: int, passage: int, suffix: str) -> Path:
        return self.folder / f"{kind}-{model}-{passage}{suffix}"

    def _error(self, exc: OSError) -> InputError:
        return InputError(
            _("{path} cannot be written: {reason}").format(path=self.folder, reason=os_reason(exc)),
            hint=_("Check the permissions and the free space of {path}.").format(path=self.folder.parent),
        )

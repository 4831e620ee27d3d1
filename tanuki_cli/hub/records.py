"""What tanuki remembers of its downloads: pinned revisions, which files were verified, and the speed.

A small JSON file in the state directory. Losing it costs a listing and a hash at the next pull; the
models stay usable.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from tanuki_cli.errors import SettingsError
from tanuki_cli.files import locked, os_reason, read_bounded, real_path, write_atomically
from tanuki_cli.hub.files import HubFile, PinnedModel
from tanuki_cli.i18n import _

_MAX_BYTES: Final = 64 << 20
_VERSION: Final = 1
_MAX_BYTES_PER_S: Final = 1e12
_REPOSITORY: Final = r"(?!\.)[\w.-]+/(?!\.)[\w.-]+"
_COMMIT: Final = r"[0-9a-f]{40}"
_DIGEST: Final = r"[0-9a-f]{40}|[0-9a-f]{64}"
_PATH: Final = r"[^/\\\0]+(?:/[^/\\\0]+)*"


class Records:
    """The record file at ``path``. Every call reads it anew; every change is one step, also for a download
    in another process. An entry that makes no sense counts as not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pinned(self, name: str) -> PinnedModel | None:
        """The files of model ``name`` as they were pinned by its last pull."""
        return self.all_pinned().get(name)

    def all_pinned(self) -> dict[str, PinnedModel]:
        """All pinned models by name, finished or not."""
        models = (_model(name, entry) for name, entry in self._read()["models"].items())
        return {model.name: model for model in models if model is not None}

    def pin(self, model: PinnedModel) -> None:
        """Remember ``model``. Raises SettingsError if the file cannot be written."""
        with self._change() as data:
            data["models"][model.name] = {
                "revision": model.revision,
                "files": [to_builtins(file) for file in model.files],
            }

    def forget(self, name: str) -> None:
        """Drop what is known about model ``name``."""
        if name in self._read()["models"]:
            with self._change() as data:
                data["models"].pop(name, None)

    def is_verified(self, path: Path, digest: str) -> bool:
        """Whether ``path`` had ``digest`` when it was last hashed, and has not been written since."""
        stamp = _stamp(path, digest)
        return stamp is not None and bool(self._read()["verified"].get(str(real_path(path))) == stamp)

    def set_verified(self, path: Path, digest: str) -> None:
        """Remember that ``path`` has ``digest``; entries of files that are gone are dropped."""
        stamp = _stamp(path, digest)
        if stamp is None:
            return
        with self._change() as data:
            data["verified"][str(real_path(path))] = stamp
            data["verified"] = {key: stamp for key, stamp in data["verified"].items() if _exists(key)}

    def speed(self) -> float | None:
        """Bytes per second of the last download that was long enough to tell, if there was one."""
        speed = self._read().get("bytes_per_s")
        return float(speed) if isinstance(speed, (int, float)) and 0 < speed < _MAX_BYTES_PER_S else None

    def set_speed(self, bytes_per_s: float) -> None:
        """Remember how fast a download was."""
        with self._change() as data:
            data["bytes_per_s"] = round(bytes_per_s)

    @contextmanager
    def _change(self) -> Iterator[dict[str, Any]]:
        """What is recorded, to be changed in the block and written at its end."""
        with locked(self._path):
            data = self._read()
            yield data
            self._write(data)

    def _read(self) -> dict[str, Any]:
        data: Any = None
        with suppress(OSError, ValueError, RecursionError):
            data = json.loads(read_bounded(self._path, limit=_MAX_BYTES))
        if not isinstance(data, dict) or type(data.get("version")) is not int:
            data = {"version": _VERSION}
        if data["version"] > _VERSION:
            raise SettingsError(
                _("{path} was written by a newer version of tanuki.").format(path=self._path),
                hint=_("Update tanuki, or move that file away."),
            )
        parts = {name: data.get(name) for name in ("models", "verified")}
        return {**data, **{name: part if isinstance(part, dict) else {} for name, part in parts.items()}}

    def _write(self, data: dict[str, Any]) -> None:
        try:
            write_atomically(self._path, json.dumps(data, indent=1, ensure_ascii=False))
        except OSError as exc:
            raise SettingsError(
                _("{path} cannot be written: {reason}").format(path=self._path, reason=os_reason(exc)),
                hint=_("Check the permissions and the free space of {path}.").format(path=self._path.parent),
            ) from exc


def _model(name: str, entry: Any) -> PinnedModel | None:
    """The model of an entry; None unless its names lead into the cache: files are removed by them."""
    try:
        revision, files = entry["revision"], tuple(HubFile(**file) for file in entry["files"])
        sensible = isinstance(revision, str) and all(map(_is_sensible, files))
    except (KeyError, TypeError):
        return None
    return PinnedModel(name=name, revision=revision, files=files) if sensible else None


def _is_sensible(file: HubFile) -> bool:
    patterns = (
        (_REPOSITORY, file.repository),
        (_COMMIT, file.commit),
        (_DIGEST, file.digest),
        (_PATH, file.path),
    )
    return (
        all(isinstance(text, str) and re.fullmatch(pattern, text) for pattern, text in patterns)
        and not {".", ".."} & set(file.path.split("/"))
        and type(file.size) is int
        and file.size >= 0
        and type(file.lfs) is bool
    )


def _exists(path: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def _stamp(path: Path, digest: str) -> dict[str, object] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return {"digest": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns}

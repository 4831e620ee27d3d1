"""What tanuki remembers of its downloads: pinned revisions, which files were verified, and the speed.

A small JSON file in the state directory. Losing it costs a listing and a hash at the next pull; the
models stay usable.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tanuki_cli.errors import SettingsError
from tanuki_cli.files import os_reason, read_bounded, write_atomically
from tanuki_cli.hub.files import HubFile, PinnedModel
from tanuki_cli.i18n import _

_MAX_BYTES: Final = 64 << 20
_VERSION: Final = 1


class Records:
    """The record file at ``path``. Every call reads it anew, every change replaces it in one step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pinned(self, name: str) -> PinnedModel | None:
        """The files of model ``name`` as they were pinned by its last pull."""
        return self.all_pinned().get(name)

    def all_pinned(self) -> dict[str, PinnedModel]:
        """All pinned models by name, finished or not."""
        return {name: _model(name, entry) for name, entry in self._read()["models"].items()}

    def pin(self, model: PinnedModel) -> None:
        """Remember ``model``. Raises SettingsError if the file cannot be written."""
        data = self._read()
        data["models"][model.name] = {
            "revision": model.revision,
            "files": [asdict(file) for file in model.files],
        }
        self._write(data)

    def forget(self, name: str) -> None:
        """Drop what is known about model ``name``."""
        data = self._read()
        if data["models"].pop(name, None) is not None:
            self._write(data)

    def is_verified(self, path: Path, digest: str) -> bool:
        """Whether ``path`` had ``digest`` when it was last hashed, and has not been written since."""
        return bool(self._read()["verified"].get(str(path.resolve())) == _stamp(path, digest))

    def set_verified(self, path: Path, digest: str) -> None:
        """Remember that ``path`` has ``digest``; entries of files that are gone are dropped."""
        data = self._read()
        data["verified"][str(path.resolve())] = _stamp(path, digest)
        data["verified"] = {key: value for key, value in data["verified"].items() if Path(key).exists()}
        self._write(data)

    def speed(self) -> float | None:
        """Bytes per second of the last download that was long enough to tell, if there was one."""
        speed = self._read().get("bytes_per_s")
        return float(speed) if isinstance(speed, (int, float)) and speed > 0 else None

    def set_speed(self, bytes_per_s: float) -> None:
        """Remember how fast a download was."""
        data = self._read()
        data["bytes_per_s"] = round(bytes_per_s)
        self._write(data)

    def _read(self) -> dict[str, Any]:
        data: Any = None
        with suppress(OSError, ValueError, RecursionError):
            data = json.loads(read_bounded(self._path, limit=_MAX_BYTES))
        if not _is_record(data):
            return {"version": _VERSION, "models": {}, "verified": {}}
        if data["version"] > _VERSION:
            raise SettingsError(
                _("{path} was written by a newer version of tanuki.").format(path=self._path),
                hint=_("Update tanuki, or move that file away."),
            )
        return dict(data)

    def _write(self, data: dict[str, Any]) -> None:
        try:
            write_atomically(self._path, json.dumps(data, indent=1, ensure_ascii=False))
        except OSError as exc:
            raise SettingsError(
                _("{path} cannot be written: {reason}").format(path=self._path, reason=os_reason(exc)),
                hint=_("Check the permissions and the free space of {path}.").format(path=self._path.parent),
            ) from exc


def _is_record(data: object) -> bool:
    parts = ("models", "verified")
    return (
        isinstance(data, dict)
        and isinstance(data.get("version"), int)
        and (data["version"] > _VERSION or all(isinstance(data.get(part), dict) for part in parts))
    )


def _model(name: str, entry: dict[str, Any]) -> PinnedModel:
    files = tuple(HubFile(**file) for file in entry["files"])
    return PinnedModel(name=name, revision=entry["revision"], files=files)


def _stamp(path: Path, digest: str) -> dict[str, object]:
    status = path.stat()
    return {"digest": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns}

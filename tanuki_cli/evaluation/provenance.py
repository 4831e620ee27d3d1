"""Where a result comes from, so that it can be judged, and run again from its record.

A record outlives the version that wrote it. So options are kept as plain JSON values under their names,
and a reader takes what it knows: a name that is missing has its default, one that is new is left alone.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, to_builtins

from tanuki_cli import __version__
from tanuki_cli.files import read_bounded, real_path, write_atomically

_ENGINE_PACKAGES: Final = ("llama-cpp-python", "numpy", "tokenizers", "torch", "transformers", "gptqmodel")
_MODEL_FILES: Final = ("*.safetensors", "*.json", "*.py", "*.gguf")
"""What of a checkpoint's folder decides what it computes."""
_BLOCK: Final = 1 << 20
_MOST_MEMORY: Final = 16 << 20

JsonObject = Mapping[str, Any]


class ModelSource(Struct, frozen=True, kw_only=True):
    """One model of a result.

    ``reference`` is what the user typed and can type again; ``sha256`` is that of the file, or for a
    checkpoint that of :func:`model_digest`. It and ``file_bytes`` are None for a served model.
    """

    reference: str
    name: str
    engine: str
    device: str
    context_length: int
    sha256: str | None = None
    file_bytes: int | None = None
    repository: str | None = None
    revision: str | None = None

    @classmethod
    def from_json(cls, value: object) -> "ModelSource":
        """Read what :meth:`Provenance.to_json` wrote of it. Raises ValueError."""
        entry = _object(value)
        return cls(
            **{name: _field(entry, name, str) for name in ("reference", "name", "engine", "device")},
            **{
                name: _field(entry, name, str, optional=True) for name in ("sha256", "repository", "revision")
            },
            context_length=_field(entry, "context_length", int),
            file_bytes=_field(entry, "file_bytes", int, optional=True),
        )


class Provenance(Struct, frozen=True, kw_only=True):
    """What produced a result.

    ``command`` is the subcommand that ``--again`` runs, ``options`` are its options and ``sampling`` the
    fields of its SamplingOptions, both as JSON values. ``date`` is UTC in ISO 8601; ``packages`` gives
    the version of every engine package that is installed.
    """

    command: str
    models: tuple[ModelSource, ...]
    options: JsonObject = {}
    sampling: JsonObject = {}
    date: str
    program: str
    python: str
    system: str
    packages: Mapping[str, str] = {}

    @classmethod
    def now(
        cls,
        command: str,
        models: Iterable[ModelSource],
        *,
        options: JsonObject | None = None,
        sampling: JsonObject | None = None,
    ) -> "Provenance":
        """Of a result that this process gives."""
        return cls(
            command=command,
            models=tuple(models),
            options=dict(options or {}),
            sampling=dict(sampling or {}),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            program=__version__,
            python=".".join(map(str, sys.version_info[:3])),
            system=f"{platform.system()} {platform.machine()}",
            packages=package_versions(),
        )

    def to_json(self) -> dict[str, Any]:
        """The ``provenance`` object of a record."""
        return to_builtins(self)

    @classmethod
    def from_json(cls, value: object) -> "Provenance":
        """Read what :meth:`to_json` wrote, in this version or another.

        Raises ValueError that names the field which cannot be used.
        """
        entry = _object(value)
        models = _field(entry, "models", (list, tuple))
        packages = _field(entry, "packages", Mapping, optional=True) or {}
        return cls(
            command=_field(entry, "command", str),
            models=tuple(ModelSource.from_json(model) for model in models),
            options=dict(_field(entry, "options", Mapping, optional=True) or {}),
            sampling=dict(_field(entry, "sampling", Mapping, optional=True) or {}),
            date=_field(entry, "date", str),
            **{
                name: _field(entry, name, str, optional=True) or ""
                for name in ("program", "python", "system")
            },
            packages={str(name): str(version) for name, version in packages.items()},
        )


def package_versions() -> dict[str, str]:
    """The engine packages that are installed, by name; none is imported."""
    found = {}
    for name in _ENGINE_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class DigestMemory:
    """Digests of files, kept in the JSON file ``path`` for as long as size and time of a file stay.

    A memory that is lost or cannot be written costs reading the files again and nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def sha256(self, file: Path, *, progress: Callable[[int], None] = lambda count: None) -> str:
        """The digest of ``file``; ``progress`` is told of every so many bytes that were read for it.

        Raises OSError.
        """
        status = file.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._read()
        key = str(real_path(file))
        entry = known.get(key)
        if isinstance(entry, list) and entry[1:] == stamp and isinstance(entry[0], str):
            progress(status.st_size)
            return entry[0]
        digest = _sha256(file, progress)
        self._write({**self._read(), key: [digest, *stamp]})
        return digest

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, RecursionError):
            data = json.loads(read_bounded(self._path, limit=_MOST_MEMORY))
            if isinstance(data, dict):
                return data
        return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        with suppress(OSError):
            write_atomically(self._path, json.dumps(known, indent=1))


def model_files(path: Path) -> list[Path]:
    """The files that decide what the model at ``path`` computes: itself, or those of its folder."""
    if not path.is_dir():
        return [path]
    return sorted({file for pattern in _MODEL_FILES for file in path.glob(pattern)})


def model_digest(
    path: Path, memory: DigestMemory, *, progress: Callable[[int], None] = lambda count: None
) -> str:
    """The sha256 of a model file, or for a folder that of ``sha256sum`` over its model files by name.

    ``progress`` is told of the bytes as they are read. Raises OSError.
    """
    files = model_files(path)
    if files == [path]:
        return memory.sha256(path, progress=progress)
    lines = [f"{memory.sha256(file, progress=progress)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(file: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def _object(value: object) -> JsonObject:
    if not isinstance(value, Mapping):
        raise ValueError("it is not an object")
    return value


def _field(entry: JsonObject, name: str, kind: type | tuple[type, ...], *, optional: bool = False) -> Any:
    value = entry.get(name)
    if (value is None and optional) or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{name!r} is missing or of another kind")

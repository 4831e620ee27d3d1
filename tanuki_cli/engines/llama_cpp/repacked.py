"""GGUF models kept a second time, with their weights in the order that ik_llama.cpp computes with.

Rearranging them takes seconds at every load, and then they are the process's own memory. A file that has them
so is mapped like any other, and gives the same numbers. How one is made: repacking.py.
"""

from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from tanuki_cli.engines.llama_cpp.kv_store import state_key


def repacked_folder(cache_folder: Path) -> Path:
    """Where copies are kept."""
    return cache_folder / "repacked"


class RepackedStore(Struct, frozen=True):
    """A folder with copies of models, each beside a link to its model.

    A copy is named by its model, the version of the library that it is for, and its own size: one whose
    model changed, or that was cut short, is not found.
    """

    folder: Path

    def find(self, model: Path, version: str) -> Path | None:
        """The copy of ``model`` for the library's ``version``; None where there is none that is whole."""
        with suppress(OSError, ValueError):
            for copy in self.folder.glob(f"{_stem(model, version)}-*.gguf"):
                if copy.stat().st_size == int(copy.stem.rpartition("-")[2]):
                    return copy
        return None

    def unfinished(self, model: Path) -> Path:
        """Where a copy of ``model`` grows."""
        return self.folder / f"{state_key(model)}.part"

    def take(self, unfinished: Path, model: Path, version: str) -> Path:
        """Give the whole copy of ``model`` at ``unfinished`` its name. Raises OSError."""
        copy = self.folder / f"{_stem(model, version)}-{unfinished.stat().st_size}.gguf"
        (self.folder / f"{state_key(model)}.model").symlink_to(model.absolute())
        return unfinished.replace(copy)

    def remove(self, model: Path) -> int:
        """Remove the copies of ``model``; the bytes that are free again. Raises OSError if the model is
        gone."""
        return self._remove(state_key(model))

    def remove_stale(self) -> int:
        """Remove the copies whose model is gone or was changed; the bytes that are free again."""
        return sum(self._remove(link.stem) for link in self.folder.glob("*.model") if _is_stale(link))

    def _remove(self, key: str) -> int:
        freed = 0
        for copy in self.folder.glob(f"{key}-*.gguf"):
            with suppress(OSError):
                size = copy.stat().st_size
                copy.unlink()
                freed += size
        with suppress(OSError):
            (self.folder / f"{key}.model").unlink()
        return freed


def _stem(model: Path, version: str) -> str:
    return f"{state_key(model)}-{version.replace(' ', '-')}"


def _is_stale(link: Path) -> bool:
    try:
        return link.stem != state_key(link.readlink())
    except FileNotFoundError:
        return True
    except OSError:  # perhaps a disk that is not there today
        return False

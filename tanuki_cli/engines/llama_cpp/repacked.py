"""GGUF models kept a second time, with their weights in the order that ik_llama.cpp computes with.

Rearranging them takes seconds at every load, and then they are the process's own memory. A file that has
them so is mapped like any other, and gives the same numbers. The fork's own program makes it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import GgufFile, read_gguf
from tanuki_cli.engines.llama_cpp.ik_package import NAME, OTHERWISE, package_folder, require_ik
from tanuki_cli.engines.llama_cpp.kv_store import state_key
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.files import locked, os_reason
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import format_bytes, usable_physical_cores

_PROGRAM: Final = "bin/llama-quantize"
_STEP: Final = re.compile(r"\[ *(\d+)/ *(\d+)\]")
_UNUSED: Final = "Q4_K_R4"
"""The program asks for a type, but with --repack it goes by those in the file."""
_RESERVE: Final = 1 << 30
"""Bytes of the disk that are left to others."""


@dataclass(frozen=True, slots=True)
class RepackedStore:
    """A folder with copies of models, each beside a link to its model.

    A copy is named by its model, the version that made it, and its own size: one whose model changed, or
    that was cut short, is not found.
    """

    folder: Path

    def find(self, model: Path, version: str) -> Path | None:
        """The copy of ``model`` for ik_llama.cpp ``version``; None where there is none that is whole."""
        with suppress(OSError, ValueError):
            for copy in self.folder.glob(f"{state_key(model)}-{version}-*.gguf"):
                if copy.stat().st_size == int(copy.stem.rpartition("-")[2]):
                    return copy
        return None

    def make(self, model: Path, *, on_step: Callable[[int, int], None]) -> Path:
        """The copy of ``model``, made if it is not there; ``on_step`` hears how many tensors are done, of how
        many. Copies that are of no use any more are removed.

        Raises EngineError for a model that ik_llama.cpp does not run or rearrange, where it is not
        installed, and where the disk does not hold the copy; SettingsError while another process makes one.
        Nothing unfinished stays.
        """
        from tanuki_cli.engines.llama_cpp.ik import (
            load_ik,
        )  # loads another library; to find a copy needs none

        version, original = require_ik(), read_gguf(model)
        if not load_ik().admits(model_facts(original)):
            raise EngineError(
                _("{engine} does not run models of this shape.").format(engine=NAME), hint=OTHERWISE
            )
        try:
            with locked(self.folder / "copies"):
                self.remove_stale()
                for left_over in self.folder.glob("*.part"):  # of a process that was killed
                    left_over.unlink()
                return self.find(model, version) or self._make(original, version, on_step)
        except OSError as exc:
            raise EngineError(
                _("The copy cannot be written: {reason}").format(reason=os_reason(exc)), hint="tanuki doctor"
            ) from exc

    def remove_stale(self) -> int:
        """Remove the copies whose model is gone or was changed; the bytes that are free again."""
        return sum(self._remove(link.stem) for link in self.folder.glob("*.model") if _is_stale(link))

    def _make(self, original: GgufFile, version: str, on_step: Callable[[int, int], None]) -> Path:
        self._require_space(sum(part.stat().st_size for part in original.parts))
        key = state_key(original.path)
        self._remove(key)  # made by another version, or cut short
        unfinished = self.folder / f"{key}.part"
        try:
            _rearrange(original.path, unfinished, on_step)
            _require_same(original, unfinished)
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            copy = self.folder / f"{key}-{version}-{unfinished.stat().st_size}.gguf"
            (self.folder / f"{key}.model").symlink_to(original.path.absolute())
            unfinished.replace(copy)
        finally:
            unfinished.unlink(missing_ok=True)
        return copy

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed + _RESERVE:
            raise EngineError(
                _("The copy needs {needed} on the disk, and {free} is free.").format(
                    needed=format_bytes(needed + _RESERVE), free=format_bytes(free)
                ),
                hint=_("Remove a model that you do not use: tanuki rm"),
            )

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


def _is_stale(link: Path) -> bool:
    try:
        return link.stem != state_key(link.readlink())
    except FileNotFoundError:
        return True
    except OSError:  # perhaps a disk that is not there today
        return False


def _rearrange(model: Path, copy: Path, on_step: Callable[[int, int], None]) -> None:
    """Raises EngineError, with the program's own words where it failed."""
    program, threads = package_folder() / _PROGRAM, str(usable_physical_cores())
    said = ""
    with subprocess.Popen(
        [program, "--repack", model, copy, _UNUSED, threads],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is ours
    ) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                text = line.decode("utf-8", errors="replace").strip()
                if step := _STEP.match(text):
                    on_step(int(step[1]), int(step[2]))
                elif "fail" in text or "error" in text:
                    said = said or text
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        reason = brief(said or f"llama-quantize: {running.returncode}")
        raise EngineError(
            _("The weights of {path} cannot be rearranged: {reason}").format(path=model, reason=reason),
            hint=OTHERWISE,
        )
    if not copy.exists():
        raise EngineError(
            _("{path} holds no weights that ik_llama.cpp would rearrange.").format(path=model),
            hint=_("Use it as it is."),
        )


def _require_same(original: GgufFile, copy: Path) -> None:
    """Raises EngineError for a copy that has not the tensors of ``original``."""
    found = [(tensor.name, tensor.shape) for part in read_gguf(copy).tensors for tensor in part]
    wanted = [(tensor.name, tensor.shape) for part in original.tensors for tensor in part]
    if sorted(found) != sorted(wanted):
        raise EngineError(
            _("The copy of {path} is not right.").format(path=original.path), hint="tanuki doctor"
        )

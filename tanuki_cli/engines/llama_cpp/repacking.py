"""Making the copies of repacked.py, with the program that comes with ik_llama.cpp."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import GgufFile, read_gguf
from tanuki_cli.engines.llama_cpp.ik import load_ik
from tanuki_cli.engines.llama_cpp.ik_package import NAME, OTHERWISE, package_folder
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore
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


def make_copy(store: RepackedStore, model: Path, *, on_step: Callable[[int, int], None]) -> Path:
    """The copy of ``model`` in ``store``, made if it is not there; ``on_step`` hears how many tensors are
    done, of how many. Copies that are of no use any more are removed.

    Raises EngineError for a model that ik_llama.cpp does not run or rearrange, where it is not installed,
    and where the disk does not hold the copy; SettingsError while another process makes one. Nothing
    unfinished stays.
    """
    build, original = load_ik(), read_gguf(model)
    if not build.admits(model_facts(original)):
        raise EngineError(
            _("{engine} does not run models of this shape.").format(engine=NAME), hint=OTHERWISE
        )
    try:
        with locked(store.folder / "copies"):
            store.remove_stale()
            for left_over in store.folder.glob("*.part"):  # of a process that was killed
                left_over.unlink()
            if found := store.find(original.path, build.version):
                return found
            store.remove(original.path)  # made for another version, or cut short
            return _make(store, original, build.version, on_step)
    except OSError as exc:
        raise EngineError(
            _("The copy cannot be written: {reason}").format(reason=os_reason(exc)), hint="tanuki doctor"
        ) from exc


def _make(
    store: RepackedStore, original: GgufFile, version: str, on_step: Callable[[int, int], None]
) -> Path:
    _require_space(store.folder, sum(part.stat().st_size for part in original.parts))
    unfinished = store.unfinished(original.path)
    try:
        _rearrange(original.path, unfinished, on_step)
        _require_same(original, unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        if unfinished != store.unfinished(original.path):  # its name would be that of a copy of the new one
            raise EngineError(
                _("{path} was changed while it was copied.").format(path=original.path),
                hint=_("Wait until it is whole, and do it again."),
            )
        return store.take(unfinished, original.path, version)
    finally:
        unfinished.unlink(missing_ok=True)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE:
        raise EngineError(
            _("The copy needs {needed} on the disk, and {free} is free.").format(
                needed=format_bytes(needed + _RESERVE), free=format_bytes(free)
            ),
            hint=_("Remove a model that you do not use: {command}").format(command="tanuki rm MODEL"),
        )


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

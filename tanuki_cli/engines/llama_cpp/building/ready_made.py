"""A wheel of llama-cpp-python that was built elsewhere, for who cannot wait for a compiler.

The project that makes the sources keeps an index of its own with wheels of every version (PyPI has none).
They are compiled for x86-64 with AVX2, so that one is taken only where that is what the processor has; it
is used only after it gave right answers here (self_test.py).
"""

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.building.kept import find_in, has_own_flags, keep, runs
from tanuki_cli.engines.llama_cpp.building.running import Place, Runner, SetupError
from tanuki_cli.engines.llama_cpp.building.ways import NAME, Build, processor
from tanuki_cli.i18n import _

VARIABLE: Final = "TANUKI_LLAMA_CPP_INDEX"
"""Another index; empty for none."""
_INDEX: Final = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
_FOLDER: Final = "ready-made"
_COMPILED_FOR: Final = frozenset({"avx", "avx2", "bmi2", "f16c", "fma"})
_FASTER_WITH: Final = re.compile(r"\b(avx512f|avx_vnni|avx512_vnni|amx_int8)\b")
_TIMEOUT_S: Final = 10


def index_for(ways: tuple[Build, ...], environ: Mapping[str, str]) -> str:
    """Where to look for one; empty where none fits this machine, or how the user wants llama.cpp built."""
    chosen = environ.get(VARIABLE)
    # Whoever chose where packages come from is not led elsewhere.
    elsewhere = environ.get("PIP_NO_INDEX") or environ.get("PIP_INDEX_URL")
    if has_own_flags(environ) or ways[0].is_for_gpu or (chosen is None and elsewhere):
        return ""
    glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    fits = glibc and platform.machine() == "x86_64" and set(processor().split()) >= _COMPILED_FOR
    return (_INDEX if chosen is None else chosen) if fits else ""


def is_slower_here() -> bool:
    """Whether this processor has instructions for language models that such a wheel does not use."""
    return bool(_FASTER_WITH.search(processor()))


def find(index: str, version: str, runner: Runner, place: Place, environ: Mapping[str, str]) -> Path | None:
    """The wheel of ``version`` at ``index``, or one that was kept; None where there is none that loads."""
    if wheel := find_in(_FOLDER, version, environ, place.into.parent):
        return wheel
    pip = (str(place.python), "-I", "-m", "pip", "download", "--no-input", "--progress-bar=off")
    options = ("--no-deps", "--no-cache-dir", "--only-binary=:all:", "--retries=0", f"--timeout={_TIMEOUT_S}")
    command = (*pip, *options, f"--index-url={index}", f"--dest={place.into}", f"{NAME}=={version}")
    try:
        runner.run(_("Looking for a llama.cpp that is built already"), command, log=place.log)
    except SetupError:
        return None
    for wheel in place.into.glob("*.whl"):
        if runs(wheel, place.into):
            return keep(wheel, _FOLDER, version, environ)
        wheel.unlink()
    return None

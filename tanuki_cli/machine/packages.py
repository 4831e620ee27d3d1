"""The packages of the optional engines, and the commands that add a package to this very Python."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

Extra = Literal["transformers", "quantized", "ik"]

TRANSFORMERS: Final = ("torch", "transformers", "safetensors", "accelerate")
"""What models in safetensors need."""
QUANTIZED: Final = {"awq": ("gptqmodel",), "gptq": ("gptqmodel", "optimum")}
"""What quantised ones need as well, by their method."""
LLAMA_CPP: Final = "llama-cpp-python"
IK: Final = "ik-llama-cpp-python==0.1.5"
"""Of the one version whose structures are known."""

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_NAME: Final = "tanuki-cli"


def missing(modules: Iterable[str]) -> list[str]:
    """Those of ``modules`` that are not installed; none is imported."""
    return [name for name in modules if find_spec(name) is None]


def installed_version(package: str, distribution: str) -> str:
    """The version of ``distribution``, which brings ``package``, by the name of its folder.

    importlib.metadata takes longer to import than all else here, so it is asked only where there is not
    exactly one. Raises ImportError where there is none.
    """
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [name for place in places for name in Path(place).parent.glob(f"{distribution}-*.dist-info")]
    if len(found) == 1:
        return found[0].name.removeprefix(f"{distribution}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(distribution)


def pip_install(*packages: str) -> str:
    """What to paste into a shell to install ``packages`` for this very Python.

    An environment that uv made, for itself or for pipx, has no pip.
    """
    # Where find_spec is asked for pip, setuptools takes it for pip's start, and cannot be imported any more.
    if PathFinder.find_spec("pip") is None:
        return shlex.join(("uv", "pip", "install", "--python", sys.executable, *packages))
    return shlex.join((sys.executable, "-m", "pip", "install", *packages))


def install_extra(extra: Extra) -> str:
    """What installs an extra of this program: from its checkout where it runs in one.

    Elsewhere the extra's packages are named one by one: this program is on no package index, where its
    name may even be somebody else's.
    """
    if (_ROOT / "pyproject.toml").is_file():
        return pip_install("-e", f"{_ROOT}[{extra}]")
    return pip_install(*(_requirements(extra) or _modules(extra)))


def _requirements(extra: Extra) -> list[str]:
    """What the installed program says that ``extra`` needs; nothing if it was only copied here."""
    from importlib import metadata  # takes longer than all else here, and is hardly ever needed

    try:
        lines = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    marker = re.compile(rf"""\bextra\s*==\s*['"]{extra}['"]""")
    return [line.partition(";")[0].strip() for line in lines if marker.search(line.partition(";")[2])]


def _modules(extra: Extra) -> list[str]:
    if extra == "ik":
        return [IK]
    return sorted({*TRANSFORMERS, *(QUANTIZED["gptq"] if extra == "quantized" else ())})


def find_nvcc() -> str | None:
    """The CUDA compiler, also where it is installed but not on the path."""
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def rebuild_llama_cpp(flags: str, *, nvcc: str | None = None) -> str:
    """What builds llama.cpp again in this environment with CMake's ``flags``, not from pip's cache.

    CMake is told of a CUDA compiler ``nvcc`` that it would not find.
    """
    variables = f'CMAKE_ARGS="{flags}" ' if flags else ""
    if nvcc is not None and shutil.which("nvcc") is None:
        variables = f"CUDACXX={shlex.quote(nvcc)} {variables}"
    options = ("--force-reinstall", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA_CPP, LLAMA_CPP)
    return variables + pip_install(*options)

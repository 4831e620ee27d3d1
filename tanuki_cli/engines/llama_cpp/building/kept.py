"""The wheels of llama-cpp-python that are kept for the next environment.

One is the same for every Python (py3-none), but not for every processor: its kernels are compiled for the
one at hand. pip's cache knows neither, so that wheels are kept here: a second checkout, an update and
another Python take seconds.
"""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.building.running import SetupError, temporary_folder
from tanuki_cli.engines.llama_cpp.building.ways import CMAKE_FILE, STEM, Build, output_of, processor
from tanuki_cli.i18n import _

_FLAGS: Final = re.compile(
    r"(CMAKE|SKBUILD|GGML|LLAMA|LLAVA)_.*|CC|CXX|CUDACXX|CUDAHOSTCXX|CUDAARCHS|(C|CXX|CPP|LD|CUDA)FLAGS"
)
_KEY_LENGTH: Final = 16
_LIBRARY_SUFFIX: Final = "dylib" if sys.platform == "darwin" else "so"


def wheel_directory(environ: Mapping[str, str]) -> Path:
    """Where built wheels are kept: in tanuki's cache directory.

    Raises SetupError where nobody knows the home directory that is meant; the program would not start then.
    """
    home, xdg = environ.get("TANUKI_HOME"), environ.get("XDG_CACHE_HOME")
    try:
        if home:
            cache = Path(home).expanduser() / "cache"
        elif sys.platform == "darwin":
            cache = Path.home() / "Library" / "Caches" / "tanuki"
        else:
            cache = (Path(xdg) if xdg else Path.home() / ".cache") / "tanuki"
    except RuntimeError as exc:
        raise SetupError(
            _("The home directory of {path} is not known.").format(path=home or "~"),
            hint="export TANUKI_HOME=/path/to/tanuki",
        ) from exc
    return cache / "llama.cpp"


def _gpus() -> str:
    return output_of("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")


def has_own_flags(environ: Mapping[str, str]) -> bool:
    """Whether the user says how to compile."""
    return any(_FLAGS.fullmatch(name) for name in environ)


def key(version: str, build: Build, environ: Mapping[str, str]) -> str:
    """Differs where the same build could give another wheel, or one that does not run here."""
    flags = {name: value for name, value in environ.items() if _FLAGS.fullmatch(name)}
    flags.update({**build.variables, "CMAKE_ARGS": build.arguments.replace(str(CMAKE_FILE), "")})
    system = (sys.platform, platform.machine(), *platform.libc_ver(), processor())
    gpu = _gpus() if build.is_for_gpu else ""
    digest = hashlib.sha256(repr((version, sorted(flags.items()), system, gpu)).encode())
    digest.update(CMAKE_FILE.read_bytes())
    return digest.hexdigest()[:_KEY_LENGTH]


def find(version: str, ways: tuple[Build, ...], environ: Mapping[str, str], within: Path) -> Path | None:
    """A wheel that was built here, kept, and runs ``within`` a folder; those that do not are removed."""
    # One for the CPU does not stand in for one for the GPU.
    for build in ways[:1] if ways[0].is_for_gpu else ways:
        if wheel := find_in(key(version, build, environ), version, environ, within):
            return wheel
    return None


def find_in(name: str, version: str, environ: Mapping[str, str], within: Path) -> Path | None:
    """The wheel of ``version`` that was kept under ``name`` and runs here; one that does not is removed."""
    for wheel in (wheel_directory(environ) / name).glob(f"{STEM}-{version}-*.whl"):
        if runs(wheel, within):
            return wheel
        forget(wheel)  # built on another system after all: libraries differ that no key names
    return None


def forget(wheel: Path) -> None:
    """Look for another than ``wheel`` next time: it does not work here."""
    with contextlib.suppress(OSError):  # on a disk that is read-only it is tried again
        wheel.unlink()


def keep(wheel: Path, name: str, version: str, environ: Mapping[str, str]) -> Path:
    """Keep ``wheel`` under ``name`` for the next environment, in one step, and forget other versions.

    Where that is not possible, it is used from where it lies.
    """
    folder = wheel_directory(environ) / name
    temporary = folder / f"{os.urandom(4).hex()}.new"  # another start may keep the same one just now
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel, temporary)
        temporary.replace(folder / wheel.name)
        for old in folder.parent.iterdir():
            if old != folder and not list(old.glob(f"{STEM}-{version}-*.whl")):
                shutil.rmtree(old)
    except OSError:
        return wheel
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # where the disk is full
    return folder / wheel.name


def runs(wheel: Path, within: Path) -> bool:
    """Whether the library in ``wheel`` can be loaded here, tried in a process of its own.

    It is unpacked ``within`` a folder where the usual place for such lets nothing be loaded.
    """
    with temporary_folder(within) as temporary:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(temporary)
            library = Path(temporary, "llama_cpp", "lib", f"libllama.{_LIBRARY_SUFFIX}")
            load = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).llama_backend_init()"
            command = [sys.executable, "-I", "-c", load, str(library)]
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        except (OSError, zipfile.BadZipFile, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0

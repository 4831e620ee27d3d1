"""The ways to build llama-cpp-python on this machine, without what is not used."""

import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.building.running import SetupError
from tanuki_cli.i18n import _

NAME: Final = "llama-cpp-python"
STEM: Final = NAME.replace("-", "_")
CMAKE_FILE: Final = Path(__file__).with_name("llama_cpp.cmake")

Finder = Callable[[str], "str | None"]

_COMPILERS: Final = {
    "apt": "sudo apt install g++",
    "dnf": "sudo dnf install gcc-c++",
    "zypper": "sudo zypper install gcc-c++",
    "pacman": "sudo pacman -S gcc",
}
"""How a compiler is installed, by the program that does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One way to build: CMake's arguments, and other environment variables.

    ``failure`` is what users are told where it fails and the next way is tried; {reason} stands in it.
    """

    arguments: str
    variables: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""

    @property
    def is_for_gpu(self) -> bool:
        """Whether an NVIDIA GPU will be used."""
        return "CUDA" in self.arguments


def builds(environ: Mapping[str, str], nvcc: str | None) -> tuple[Build, ...]:
    """The ways to build for this machine, the best first."""
    include = shlex.quote(f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={CMAKE_FILE}")
    trimmed = f"-DLLAVA_BUILD=OFF {include}"
    plain = _("llama.cpp could not be built without its unused parts, so all of it is built: {reason}")
    if chosen := environ.get("CMAKE_ARGS"):
        return (Build(arguments=f"{trimmed} {chosen}", failure=plain), Build(arguments=chosen))
    for_cpu = (Build(arguments=trimmed, failure=plain), Build(arguments=""))
    if nvcc is None:
        return for_cpu
    gpu = Build(
        arguments=f"{trimmed} -DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native",
        variables={"CUDACXX": nvcc},
        failure=_("llama.cpp could not be built for the GPU, so it is built for the CPU: {reason}"),
    )
    return (gpu, *for_cpu)


def required_version(requirements: str) -> str:
    """The version to build: the lowest that ``requirements`` take, which is the one that was tried."""
    [version] = re.findall(rf"{NAME}\b[^\n]*?>=([\w.]+)", requirements)
    return str(version)


def find_nvcc(environ: Mapping[str, str], *, which: Finder = shutil.which) -> str | None:
    """The CUDA compiler, but only where a working NVIDIA GPU is there to run what it makes."""
    nvcc = environ.get("CUDACXX") or which("nvcc") or which("/usr/local/cuda/bin/nvcc")
    smi = which("nvidia-smi")
    if nvcc is None or smi is None:
        return None
    try:
        listing = subprocess.run([smi, "-L"], capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return nvcc if listing.returncode == 0 and b"GPU 0" in listing.stdout else None


def check_venv() -> None:
    """Raise SetupError where no environment can be made."""
    if find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            _("This Python {version} cannot make environments: its venv module is missing.").format(
                version=version
            ),
            hint=f"sudo apt install python{version}-venv",
        )


def check_compiler(environ: Mapping[str, str], *, which: Finder = shutil.which) -> None:
    """Raise SetupError where the build could only fail much later."""
    if not (environ.get("CXX") or any(which(name) for name in ("c++", "g++", "clang++"))):
        raise SetupError(
            _("No C++ compiler was found, and llama.cpp is built from source."),
            hint=_compiler_hint(which),
        )


def _compiler_hint(which: Finder) -> str:
    if sys.platform == "darwin":
        return "xcode-select --install"
    found = next((command for program, command in _COMPILERS.items() if which(program)), None)
    return found or _("Install g++ or clang++.")


def processor() -> str:
    """What the compiler's -march=native looks at."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    wanted = r"^(model name|cpu family|model|flags|Features|CPU \w+|isa)\s*:.*$"
    return "\n".join(match[0] for match in re.finditer(wanted, text, re.MULTILINE))


def output_of(*command: str) -> str:
    """What ``command`` prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")

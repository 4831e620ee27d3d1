"""The wheel of llama-cpp-python: built without what is not used, and kept for the next environment.

It is the same for every Python (py3-none), but not for every processor: its kernels are compiled for the
one at hand. pip's cache knows neither, so that wheels are kept here: a second checkout, an update and
another Python take seconds.
"""

import contextlib
import hashlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.setup.running import BootstrapError, Command, Runner, tell, watch
from tanuki_cli.i18n import _

NAME: Final = "llama-cpp-python"
_STEM: Final = NAME.replace("-", "_")
CMAKE_FILE: Final = Path(__file__).with_name("llama_cpp.cmake")
LOG_NAME: Final = "llama.cpp.log"
_FLAGS: Final = re.compile(
    r"(CMAKE|SKBUILD|GGML|LLAMA|LLAVA)_.*|CC|CXX|CUDACXX|CUDAHOSTCXX|CUDAARCHS|(C|CXX|CPP|LD|CUDA)FLAGS"
)
_OBJECTS: Final = re.compile(r"^\s*\[(\d+)/(\d+)\]", re.MULTILINE)
_PERCENT: Final = re.compile(r"^\s*\[ *(\d+)%\]", re.MULTILINE)
_KEY_LENGTH: Final = 16
_LIBRARY_SUFFIX: Final = "dylib" if sys.platform == "darwin" else "so"

Finder = Callable[[str], "str | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One way to build: CMake's arguments, and other environment variables.

    ``failure`` is what users are told where it fails and the next way is tried; {reason} stands in it.
    """

    arguments: str
    variables: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


def required_version(pyproject: str) -> str:
    """The version to build: the lowest that ``pyproject`` takes, which is the one that was tried."""
    [version] = re.findall(rf'"{NAME}>=([\w.]+)', pyproject)
    return str(version)


def is_installed(version: str, environment: Path) -> bool:
    """Whether the ``environment`` has it already, however it was built."""
    return any(environment.glob(f"lib/python*/site-packages/{_STEM}-{version}.dist-info"))


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


# --- what is kept ---------------------------------------------------------------------------------------


def wheel_directory(environ: Mapping[str, str]) -> Path:
    """Where built wheels are kept: in tanuki's cache directory."""
    home, xdg = environ.get("TANUKI_HOME"), environ.get("XDG_CACHE_HOME")
    if home:
        cache = Path(home).expanduser() / "cache"
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches" / "tanuki"
    else:
        cache = (Path(xdg) if xdg else Path.home() / ".cache") / "tanuki"
    return cache / "llama.cpp"


def processor() -> str:
    """What the compiler's -march=native looks at."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        wanted = r"^(model name|cpu family|model|flags|Features|CPU \w+|isa)\s*:.*$"
        return "\n".join(match[0] for match in re.finditer(wanted, text, re.MULTILINE))
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()


def _gpus() -> str:
    return _output("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _is_for_gpu(build: Build) -> bool:
    return "CUDA" in build.arguments


def key(version: str, build: Build, environ: Mapping[str, str]) -> str:
    """Differs where the same build could give another wheel, or one that does not run here."""
    flags = {name: value for name, value in environ.items() if _FLAGS.fullmatch(name)}
    flags.update({**build.variables, "CMAKE_ARGS": build.arguments.replace(str(CMAKE_FILE), "")})
    system = (sys.platform, platform.machine(), *platform.libc_ver(), processor())
    gpu = _gpus() if _is_for_gpu(build) else ""
    digest = hashlib.sha256(repr((version, sorted(flags.items()), system, gpu)).encode())
    digest.update(CMAKE_FILE.read_bytes())
    return digest.hexdigest()[:_KEY_LENGTH]


def _folder(version: str, build: Build, environ: Mapping[str, str]) -> Path:
    return wheel_directory(environ) / key(version, build, environ)


def find(version: str, ways: tuple[Build, ...], environ: Mapping[str, str]) -> Path | None:
    """A wheel that was kept and runs here; those that do not are removed."""
    # One for the CPU does not stand in for one for the GPU.
    for build in ways[:1] if _is_for_gpu(ways[0]) else ways:
        for wheel in _folder(version, build, environ).glob("*.whl"):
            if runs(wheel):
                return wheel
            # Built on another system after all: libraries differ that no key names.
            wheel.unlink(missing_ok=True)
    return None


def keep(wheel: Path, version: str, build: Build, environ: Mapping[str, str]) -> Path:
    """Keep ``wheel`` for the next environment, in one step, and forget those of other versions.

    Where that is not possible, it is used from where it lies.
    """
    folder = _folder(version, build, environ)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{wheel.name}.new"
        shutil.copyfile(wheel, temporary)
        temporary.replace(folder / wheel.name)
        for old in folder.parent.iterdir():
            if old != folder and not list(old.glob(wheel.name)):
                shutil.rmtree(old)
    except OSError:
        return wheel
    return folder / wheel.name


def runs(wheel: Path) -> bool:
    """Whether the library in ``wheel`` can be loaded here, tried in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="tanuki-") as temporary:
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


# --- building -------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Building:
    """A build that runs: how far it is."""

    command: Command
    _first: int = 0
    _since: float = 0.0

    def progress(self) -> str:
        """Objects compiled of all, and the time left at the rate so far; empty before the first."""
        output = self.command.output
        if self.command.process.poll() is not None:
            return _("llama.cpp: done")
        if counts := _OBJECTS.findall(output):
            done, total = map(int, counts[-1])
        elif shares := _PERCENT.findall(output):
            done, total = int(shares[-1]), 100
        else:
            return _("llama.cpp: getting ready")
        now = time.monotonic()
        if not self._since:
            self._first, self._since = done, now
        line = _("llama.cpp: {done} of {total}").format(done=done, total=total)
        # The first ones say little: some take a second, some half a minute.
        if (done - self._first) * 12 < total:
            return line
        seconds = (now - self._since) / (done - self._first) * (total - done)
        return _("{line}, about {time} left").format(line=line, time=rough(seconds))


def rough(seconds: float) -> str:
    """A time to wait, no more exact than it is known."""
    if seconds < 60:
        return _("{count} s").format(count=max(10, round(seconds / 10) * 10))
    return _("{count} min").format(count=round(seconds / 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose pip builds, the folder that the wheel goes ``into``, and where its output is kept."""

    python: Path
    into: Path
    log: Path


@contextlib.contextmanager
def building(version: str, build: Build, runner: Runner, place: Place) -> Iterator[Building]:
    """Start to build the wheel; what still runs at the end of this context is ended."""
    # pip's cache does not know how a wheel was built: neither take one from it nor leave one.
    options = ("--no-deps", "--no-cache-dir", "--no-binary", NAME, "--verbose")
    pip = (str(place.python), "-I", "-m", "pip", "wheel", "--no-input", "--progress-bar=off")
    command = (*pip, *options, "--wheel-dir", str(place.into), f"{NAME}=={version}")
    variables = {**build.variables, "CMAKE_ARGS": build.arguments}
    with runner.started(command, log=place.log, variables=variables) as started:
        yield Building(command=started)


def finish(
    version: str, ways: tuple[Build, ...], begun: Building, runner: Runner, place: Place
) -> tuple[Build, Path]:
    """Wait for ``begun``, the first of ``ways``; where it fails, try the others.

    Gives the way that succeeded, and its wheel. Raises BootstrapError if none does.
    """
    title = _("Building llama.cpp")
    watch(title, begun.command, begun.progress)
    for index, build in enumerate(ways):
        if index:
            with building(version, build, runner, place) as begun:
                watch(title, begun.command, begun.progress)
        try:
            begun.command.check()
            [wheel] = place.into.glob("*.whl")
            if not runs(wheel):
                wheel.unlink()
                raise BootstrapError(
                    _("What was built does not run here."),
                    hint=_("The whole output is in {log}").format(log=place.log),
                )
        except BootstrapError as error:
            if not build.failure:
                raise
            tell(build.failure.format(reason=error))
        else:
            return build, wheel
    raise AssertionError("the last way has no next one")


def write_placeholder(version: str, folder: Path) -> Path:
    """An empty wheel that stands in for llama-cpp-python while it is built, so that pip installs the rest.

    Its version is a local one: the wheel that is built replaces it.
    """
    stem = f"{_STEM}-{version}+placeholder"
    wheel = folder / f"{stem}-py3-none-any.whl"
    metadata = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}+placeholder\nProvides-Extra: server\n"
    )
    tag = "Wheel-Version: 1.0\nGenerator: tanuki\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (("METADATA", metadata), ("WHEEL", tag), ("RECORD", "")):
            archive.writestr(f"{stem}.dist-info/{name}", text)
    return wheel


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

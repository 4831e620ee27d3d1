"""Make the environment that the scripts beside this file run in, with nothing but the standard library.

    python -m scripts.bootstrap run|test|fast DIRECTORY      (in the checkout)

An environment is complete when its stamp stands in it; the stamp is written last, in one step. One
without a stamp, because a start was interrupted, is made anew: what pip had downloaded comes from its
cache, and llama.cpp, once built, from ours (setup/llama_wheel.py). A lock keeps two starts apart; pip and
the compilers inherit it, so that it also outlives a killed start until they are gone.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from scripts.setup import llama_wheel
from scripts.setup.running import BootstrapError, Runner, clock, tell
from tanuki_cli.i18n import _, activate, detect_language

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ("pyproject.toml", "scripts/bootstrap.py")
VARIABLES: Final = {"run": "TANUKI_VENV", "test": "TANUKI_TEST_VENV", "fast": "TANUKI_FAST_VENV"}
LOCK_NAME: Final = "tanuki-environment.lock"
STAMP_NAME: Final = "complete"
LOG_NAME: Final = "install.log"

TORCH: Final = "torch==2.13.0"  # the version the tests were written against; its CPU build is enough

Finder = Callable[[str], "str | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of pip: what the user is told, and pip's arguments."""

    title: str
    pip: tuple[str, ...]


def stages(kind: str) -> tuple[Stage, ...]:
    """What is installed besides llama.cpp. The last stage is the project itself."""
    if kind == "run":
        return (Stage(title=_("Installing tanuki"), pip=("--editable", ".")),)
    with_tests = _("Installing tanuki with its tests")
    if kind == "fast":
        return (Stage(title=with_tests, pip=("--editable", ".[dev]")),)
    return (
        Stage(title=_("Installing torch"), pip=(TORCH,)),
        # Named again, so that nothing asked for here can replace it.
        Stage(title=with_tests, pip=("--editable", ".[dev,quantized]", TORCH)),
    )


def check_venv() -> None:
    """Raise BootstrapError where no environment can be made."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            _("This Python {version} cannot make environments: its venv module is missing.").format(
                version=version
            ),
            hint=f"sudo apt install python{version}-venv",
        )


def check_compiler(environ: Mapping[str, str], *, which: Finder = shutil.which) -> None:
    """Raise BootstrapError where the build could only fail much later."""
    if not (environ.get("CXX") or any(which(name) for name in ("c++", "g++", "clang++"))):
        raise BootstrapError(
            _("No C++ compiler was found, and llama.cpp is built from source."),
            hint="xcode-select --install" if sys.platform == "darwin" else "sudo apt install g++",
        )


# --- the environment's directory ------------------------------------------------------------------------


@contextlib.contextmanager
def locked(directory: Path, *, variable: str) -> Iterator[int]:
    """Hold ``directory`` alone, waiting for another start; gives the lock's file descriptor.

    ``variable`` is the environment variable that names another directory. Raises BootstrapError if
    this one is in use for something else: it may be emptied later.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    if names and LOCK_NAME not in names:
        raise BootstrapError(
            _("{directory} exists and was not made by this script.").format(directory=directory),
            hint=_("Remove it, or choose another place with {variable}=DIRECTORY.").format(variable=variable),
        )
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(_("Another start is making the environment; waiting for it (Ctrl-C stops waiting)."))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def fingerprint(kind: str) -> str:
    """Changes when the environment would be made differently; what llama.cpp was built for does not count."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(repr((kind, stages(kind)[-1].pip)).encode())
    return digest.hexdigest()


def stamp_lines(directory: Path) -> list[str]:
    """Checkout and fingerprint of a complete environment; empty for any other."""
    if not (directory / "bin" / "python").exists():
        return []
    try:
        return (directory / STAMP_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def write_stamp(directory: Path, mark: str) -> None:
    """Declare the environment complete, in one step."""
    temporary = directory / f"{STAMP_NAME}.new"
    temporary.write_text(f"{ROOT}\n{mark}\n", encoding="utf-8")
    # Newer than its sources even where their times lie in the future.
    newest = max(time.time(), *((ROOT / name).stat().st_mtime + 1 for name in SOURCES))
    os.utime(temporary, (newest, newest))
    temporary.replace(directory / STAMP_NAME)


def empty(directory: Path) -> None:
    """Remove everything but the lock."""
    for path in directory.iterdir():
        if path.name == LOCK_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def prepare(kind: str, directory: Path) -> None:
    """Make the environment complete. Raises BootstrapError, KeyboardInterrupt."""
    with locked(directory, variable=VARIABLES[kind]) as lock:
        mark = fingerprint(kind)
        old = stamp_lines(directory)
        if old == [str(ROOT), mark]:
            write_stamp(directory, mark)
            return
        check_venv()
        started = time.monotonic()
        environment = Environment(kind=kind, directory=directory, runner=Runner(directory=ROOT, lock=lock))
        if old[:1] == [str(ROOT)]:
            tell(_("The project has changed: bringing {directory} up to date.").format(directory=directory))
            (directory / STAMP_NAME).unlink()
            environment.fill(new=False)
        else:
            environment.fill(new=True)
        write_stamp(directory, mark)
        tell(_("Done in {time}.").format(time=clock(time.monotonic() - started)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment while it is made."""

    kind: str
    directory: Path
    runner: Runner

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.directory / "bin" / "python"

    def fill(self, *, new: bool) -> None:
        """Install everything. llama.cpp comes from what was built before, else it is built meanwhile."""
        version = llama_wheel.required_version((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        if not new and llama_wheel.is_installed(version, self.directory):
            self._install()
            return
        ways = llama_wheel.builds(os.environ, llama_wheel.find_nvcc(os.environ))
        wheel = llama_wheel.find(version, ways, os.environ)
        if wheel is None:
            check_compiler(os.environ)
        if new:
            tell(_("Preparing the environment in {directory}.").format(directory=self.directory))
            tell(_announcement(ways[0], kept=wheel is not None))
            self._make()
        if wheel is None:
            self._build(version, ways)
        else:
            self._install(wheel)

    def _make(self) -> None:
        empty(self.directory)
        command = [sys.executable, "-I", "-m", "venv", str(self.directory)]
        self.runner.run(_("Making a Python environment"), command, log=self._log)

    def _build(self, version: str, ways: tuple[llama_wheel.Build, ...]) -> None:
        with tempfile.TemporaryDirectory(prefix="tanuki-") as temporary:
            into, log = Path(temporary), self.directory / llama_wheel.LOG_NAME
            place = llama_wheel.Place(python=self.python, into=into / "built", log=log)
            with llama_wheel.building(version, ways[0], self.runner, place) as begun:
                placeholder = llama_wheel.write_placeholder(version, into)
                self._install(placeholder, beside=begun.progress)
                way, wheel = llama_wheel.finish(version, ways, begun, self.runner, place)
            # The extra that the project's own extras name, which the placeholder lacks.
            extra = "" if self.kind == "run" else "[server]"
            built = f"{llama_wheel.keep(wheel, version, way, os.environ)}{extra}"
            self.runner.run(_("Installing llama.cpp"), [*self._pip, built], log=self._log)

    def _install(self, *wheels: Path, beside: Callable[[], str] = lambda: "") -> None:
        """Run pip for every stage; ``wheels`` are installed with the last."""
        *first, last = stages(self.kind)
        for stage in first:
            self.runner.run(stage.title, [*self._pip, *stage.pip], log=self._log, beside=beside)
        command = [*self._pip, *map(str, wheels), *last.pip]
        self.runner.run(last.title, command, log=self._log, beside=beside)

    @property
    def _pip(self) -> list[str]:
        return [str(self.python), "-I", "-m", "pip", "install", "--no-input", "--progress-bar=off"]

    @property
    def _log(self) -> Path:
        return self.directory / LOG_NAME


def _announcement(way: llama_wheel.Build, *, kept: bool) -> str:
    if kept:
        return _("This is done once and takes about a minute; llama.cpp was built before.")
    if os.environ.get("CMAKE_ARGS"):
        return _("This is done once and takes 3 to 60 minutes, with llama.cpp built as CMAKE_ARGS says.")
    if "CUDA" in way.arguments:
        return _(
            "This is done once. An NVIDIA GPU was found; building llama.cpp for it takes 15 to 60 minutes."
        )
    return _("This is done once and takes 1 to 10 minutes; most of it is building llama.cpp.")


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 once the environment is complete."""
    language = detect_language(None, os.environ)
    if language == "ja" and not _can_print("あ"):
        language = "en"
    activate(language)
    kind, directory = arguments
    # A closed window or a kill ends pip and the compilers too, like Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    try:
        prepare(kind, Path(directory))
    except BootstrapError as error:
        tell(_("error: {message}").format(message=error))
        tell(error.hint)
        return 1
    except OSError as error:
        tell(
            _("error: {message}").format(message=_("{directory} cannot be used.").format(directory=directory))
        )
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell(_("Stopped. The next start begins again, with what is built already."))
        return 130
    return 0


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stderr.encoding)
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

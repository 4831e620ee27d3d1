"""Make the environment that the scripts beside this file run in, with nothing but the standard library.

    python -m scripts.bootstrap run|test|fast DIRECTORY      (in the checkout)

An environment is complete when its stamp stands in it; the stamp is written last, in one step. One
without a stamp, because a start was interrupted, is made anew: what pip had built already comes from
pip's cache. A lock keeps two starts apart; pip and the compilers inherit it, so that it also outlives a
killed start until they are gone.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from tanuki_cli.i18n import _, activate, detect_language

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ("pyproject.toml", "scripts/bootstrap.py")
VARIABLES: Final = {"run": "TANUKI_VENV", "test": "TANUKI_TEST_VENV", "fast": "TANUKI_FAST_VENV"}
LOCK_NAME: Final = "tanuki-environment.lock"
STAMP_NAME: Final = "complete"
LOG_NAME: Final = "install.log"

TORCH: Final = "torch==2.13.0"  # the version the tests were written against; its CPU build is enough
TEST_EXTRAS: Final = "dev,quantized"
FAST_EXTRAS: Final = "dev"
LLAMA_CPP: Final = "llama-cpp-python"

Finder = Callable[[str], "str | None"]


class BootstrapError(Exception):
    """One sentence for the user, and what to do next."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of pip: what the user is told, pip's arguments, what it adds to the environment variables.

    The next stages go on where an ``optional`` one fails.
    """

    title: str
    pip: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All stages, and what to say before them."""

    announcement: str
    stages: tuple[Stage, ...]


def plan_run(environ: Mapping[str, str], *, which: Finder = shutil.which) -> Plan:
    """The program with what it needs at run time; llama.cpp is built for the GPU where one can be used."""
    install = Stage(title=_("Installing tanuki and building llama.cpp"), pip=("--editable", "."))
    if environ.get("CMAKE_ARGS"):
        announcement = _(
            "This is done once and takes 5 to 60 minutes, with llama.cpp built as CMAKE_ARGS says."
        )
        build = _llama_cpp_stage({}, optional=False)
    elif nvcc := find_nvcc(environ, which=which):
        announcement = _(
            "This is done once. An NVIDIA GPU was found; building llama.cpp for it takes 15 to 60 minutes."
        )
        options = "-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native"
        build = _llama_cpp_stage({"CMAKE_ARGS": options, "CUDACXX": nvcc}, optional=True)
    else:
        announcement = _("This is done once and takes 3 to 20 minutes; most of it is building llama.cpp.")
        return Plan(announcement=announcement, stages=(install,))
    return Plan(announcement=announcement, stages=(build, install))


def _llama_cpp_stage(variables: Mapping[str, str], *, optional: bool) -> Stage:
    # pip's cache does not know how a wheel was built: neither take a CPU wheel from it nor leave one.
    arguments = ("--no-cache-dir", "--no-binary", LLAMA_CPP, LLAMA_CPP)
    return Stage(title=_("Building llama.cpp"), pip=arguments, variables=variables, optional=optional)


def plan_test() -> Plan:
    """The program, both engines, and the tools of development."""
    return Plan(
        announcement=_("This is done once and takes 5 to 30 minutes; most of it is building llama.cpp."),
        stages=(
            Stage(title=_("Installing torch"), pip=(TORCH,)),
            # Named again, so that nothing asked for here can replace it.
            Stage(
                title=_("Installing tanuki with its tests and building llama.cpp"),
                pip=("--editable", f".[{TEST_EXTRAS}]", TORCH),
            ),
        ),
    )


def plan_fast() -> Plan:
    """What the fast tests need: no torch."""
    return Plan(
        announcement=_("This is done once and takes 3 to 20 minutes; most of it is building llama.cpp."),
        stages=(
            Stage(
                title=_("Installing tanuki with its tests and building llama.cpp"),
                pip=("--editable", f".[{FAST_EXTRAS}]"),
            ),
        ),
    )


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


def check_prerequisites(environ: Mapping[str, str], *, which: Finder = shutil.which) -> None:
    """Raise BootstrapError where the build could only fail much later."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            _("This Python {version} cannot make environments: its venv module is missing.").format(
                version=version
            ),
            hint=f"sudo apt install python{version}-venv",
        )
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


def fingerprint(kind: str, plan: Plan) -> str:
    """Changes when the environment would be made differently; what llama.cpp was built for does not count."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(repr((kind, plan.stages[-1].pip)).encode())
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
        plan = {"run": lambda: plan_run(os.environ), "test": plan_test, "fast": plan_fast}[kind]()
        mark = fingerprint(kind, plan)
        old = stamp_lines(directory)
        if old == [str(ROOT), mark]:
            write_stamp(directory, mark)
            return
        check_prerequisites(os.environ)
        started = time.monotonic()
        runner = Runner(log=directory / LOG_NAME, lock=lock)
        if old[:1] == [str(ROOT)]:
            tell(_("The project has changed: bringing {directory} up to date.").format(directory=directory))
            (directory / STAMP_NAME).unlink()
        else:
            tell(_("Preparing the environment in {directory}.").format(directory=directory))
            tell(plan.announcement)
            empty(directory)
            runner.run(_("Making a Python environment"), [sys.executable, "-I", "-m", "venv", str(directory)])
        for stage in plan.stages:
            install(stage, directory, runner)
        write_stamp(directory, mark)
        tell(_("Done in {time}.").format(time=clock(time.monotonic() - started)))


def install(stage: Stage, directory: Path, runner: "Runner") -> None:
    """Run pip. Raises BootstrapError unless the stage is optional."""
    pip = [
        str(directory / "bin" / "python"),
        "-I",
        "-m",
        "pip",
        "install",
        "--no-input",
        "--progress-bar=off",
    ]
    try:
        runner.run(stage.title, [*pip, *stage.pip], stage.variables)
    except BootstrapError as error:
        if not stage.optional:
            raise
        tell(
            _("llama.cpp could not be built for the GPU, so it is built for the CPU: {reason}").format(
                reason=error
            )
        )


# --- running pip ----------------------------------------------------------------------------------------

# Settings of the user's pip that would install somewhere else than into the environment.
ELSEWHERE: Final = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs commands with their output in ``log``, holding ``lock``, and shows how long they take."""

    log: Path
    lock: int

    def run(self, title: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Run ``command`` in the checkout. Raises BootstrapError with the likely reason if it fails."""
        environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        with self.log.open("ab") as log:
            begin = log.tell()
            # A group of its own, so that an interrupt also ends the compilers, and only once.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self.lock,),
            )
            try:
                self._watch(title, process)
            finally:
                if process.poll() is None:
                    end_group(process)
        if process.returncode != 0:
            with self.log.open("rb") as log:
                log.seek(begin)
                output = log.read().decode("utf-8", "replace")
            raise BootstrapError(
                likely_reason(output), hint=_("The whole output is in {log}").format(log=self.log)
            )

    def _watch(self, title: str, process: subprocess.Popen[bytes]) -> None:
        animated = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        if not animated:
            tell(f"{title}…")
            process.wait()
            return
        started = time.monotonic()
        try:
            while True:
                sys.stderr.write(f"\r{title}… {clock(time.monotonic() - started)}\x1b[K")
                sys.stderr.flush()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                    return
        finally:
            sys.stderr.write("\n")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End ``process`` and what it started: asked first, so that pip clears up behind itself."""
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def likely_reason(output: str) -> str:
    """Say in one sentence why pip failed, from what it printed."""
    reasons = (
        (r"No space left on device|Disk quota exceeded", _("The disk is full.")),
        (
            r"CERTIFICATE_VERIFY_FAILED|SSLError",
            _("The packages could not be downloaded: the server's certificate is not trusted."),
        ),
        (
            r"ProxyError|Tunnel connection failed",
            _("The packages could not be downloaded: the proxy refused the connection."),
        ),
        (
            r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Network is unreachable"
            r"|Temporary failure in name resolution",
            _("The packages could not be downloaded: there is no connection to the package server."),
        ),
        (
            r"CMake Error|ninja: build stopped|Failed building wheel for llama|Failed to build llama",
            _("llama.cpp could not be built."),
        ),
        (
            r"No matching distribution found",
            _("A package that tanuki needs is not offered for this Python or machine."),
        ),
    )
    for pattern, sentence in reasons:
        if re.search(pattern, output):
            return sentence
    return _("Making the environment failed.")


# --- telling --------------------------------------------------------------------------------------------


def tell(line: str) -> None:
    """One line for the user."""
    print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. ``4:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


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

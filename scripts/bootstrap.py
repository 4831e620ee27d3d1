"""Make the environment that the scripts beside this file run in, with nothing but the standard library.

    python -m scripts.bootstrap test|fast DIRECTORY               (in the checkout)
    python -m scripts.bootstrap run DIRECTORY FOLDER ARGUMENT...

The second becomes ``tanuki ARGUMENT...`` in FOLDER in the end.

An environment is complete when its stamp stands in it; the stamp is written last, in one step. One
without a stamp, because a start was interrupted, is made anew: what pip had downloaded comes from its
cache, and llama.cpp, once built, from ours (engines/llama_cpp/building/kept.py). A lock keeps two starts
apart; pip and the compilers inherit it, so that it also outlives a killed start until they are gone.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() begins: no traceback out of an import

import contextlib
import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from scripts.setup.filling import LOCK_NAME, Environment, stages
from scripts.setup.meanwhile import Meanwhile, UserLeft
from scripts.setup.screen import Stderr, tell
from tanuki_cli.engines.llama_cpp.building import ways
from tanuki_cli.engines.llama_cpp.building.running import Runner, SetupError, clock
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _, activate, detect_language

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ("pyproject.toml", "scripts/bootstrap.py")
VARIABLES: Final = {"run": "TANUKI_VENV", "test": "TANUKI_TEST_VENV", "fast": "TANUKI_FAST_VENV"}
STAMP_NAME: Final = "complete"


# --- the environment's directory ------------------------------------------------------------------------


@contextlib.contextmanager
def locked(directory: Path, *, variable: str) -> Iterator[int]:
    """Hold ``directory`` alone, waiting for another start; gives the lock's file descriptor.

    ``variable`` is the environment variable that names another directory. Raises SetupError if
    this one is in use for something else: it may be emptied later.
    """
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else {""}
    if names and LOCK_NAME not in names:
        raise SetupError(
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


def prepare(kind: str, directory: Path, meanwhile: Meanwhile) -> None:
    """Make the environment complete. Raises SetupError, UserLeft, KeyboardInterrupt."""
    with locked(directory, variable=VARIABLES[kind]) as lock:
        mark = fingerprint(kind)
        old = stamp_lines(directory)
        if old == [str(ROOT), mark]:
            write_stamp(directory, mark)
            return
        ways.check_venv()
        started = time.monotonic()
        runner = Runner(directory=ROOT, screen=Stderr(), lock=lock)
        environment = Environment(
            kind=kind, root=ROOT, directory=directory, runner=runner, meanwhile=meanwhile
        )
        if old[:1] == [str(ROOT)]:
            tell(_("The project has changed: bringing {directory} up to date.").format(directory=directory))
            (directory / STAMP_NAME).unlink()
            environment.fill(new=False)
        else:
            environment.fill(new=True)
        write_stamp(directory, mark)
        tell(_("Done in {time}.").format(time=clock(time.monotonic() - started)))


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 once the environment is complete; then ``run`` does not return, but starts the program."""
    # A closed window or a kill ends pip and the compilers too, like Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    try:
        return _started(arguments)
    except KeyboardInterrupt:  # once more, while it was stopping
        return 130


def _started(arguments: Sequence[str]) -> int:
    language = detect_language(None, os.environ)
    if language == "ja" and not _can_print("あ"):
        language = "en"
    activate(language)
    kind, directory, *rest = arguments
    folder, *command = rest or [str(ROOT)]
    # The lock is for what makes the environment, and not for a download.
    runner = Runner(directory=ROOT, screen=Stderr())
    meanwhile = Meanwhile(command=command, cwd=Path(folder), runner=runner)
    code = _prepared(kind, Path(directory), meanwhile)
    if code is None and kind == "run":
        os.chdir(folder)
        program = str(Path(directory, "bin", "tanuki"))
        os.execve(program, [program, *command], {**os.environ, "PWD": folder, **meanwhile.variables})
    return code or 0


def _prepared(kind: str, directory: Path, meanwhile: Meanwhile) -> int | None:
    """Make the environment; None once it is complete, else the exit code, after a word about it."""
    try:
        with contextlib.closing(meanwhile):
            prepare(kind, directory, meanwhile)
            meanwhile.finish()
    except SetupError as error:
        tell(_("error: {message}").format(message=error))
        tell(error.hint or "")
        return 1
    except OSError as error:
        path = Path(os.fsdecode(error.filename or directory))
        sentence = _("{path} cannot be used: {reason}").format(path=path, reason=os_reason(error))
        tell(_("error: {message}").format(message=sentence))
        if path.is_relative_to(directory):
            tell(_("Choose another place with {variable}=DIRECTORY.").format(variable=VARIABLES[kind]))
        return 1
    except (KeyboardInterrupt, UserLeft) as end:
        tell(_("Stopped. The next start begins again, with what is built already."))
        return 0 if isinstance(end, UserLeft) else 130
    return None


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stderr.encoding)
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A build of llama-cpp-python's wheel by pip, watched."""

import contextlib
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.building.kept import runs
from tanuki_cli.engines.llama_cpp.building.running import Command, Place, Runner, SetupError, joined
from tanuki_cli.engines.llama_cpp.building.ways import NAME, STEM, Build
from tanuki_cli.i18n import _

LOG_NAME: Final = "llama.cpp.log"
_OBJECTS: Final = re.compile(r"^\s*\[(\d+)/(\d+)\]", re.MULTILINE)
_PERCENT: Final = re.compile(r"^\s*\[ *(\d+)%\]", re.MULTILINE)


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


@contextlib.contextmanager
def building(version: str, build: Build, runner: Runner, place: Place) -> Iterator[Building]:
    """Start to build the wheel; what still runs at the end of this context is ended."""
    # pip's cache does not know how a wheel was built: neither take one from it nor leave one.
    options = ("--no-deps", "--no-cache-dir", "--no-binary", NAME, "--verbose")
    pip = (str(place.python), "-I", "-m", "pip", "wheel", "--no-input", "--progress-bar=off")
    command = (*pip, *options, "--wheel-dir", str(place.into), f"{NAME}=={version}")
    # pip puts tools for the build there, and runs them.
    variables = {**build.variables, "CMAKE_ARGS": build.arguments, "TMPDIR": str(place.into.parent)}
    with runner.started(command, log=place.log, variables=variables) as started:
        yield Building(command=started)


def finish(
    version: str,
    ways: tuple[Build, ...],
    begun: Building,
    runner: Runner,
    place: Place,
    *,
    beside: Callable[[], str] = lambda: "",
) -> tuple[Build, Path]:
    """Wait for ``begun``, the first of ``ways``; where it fails, try the others.

    ``beside`` says how something else is going meanwhile. Gives the way that succeeded, and its wheel.
    Raises SetupError if none does.
    """

    def wait(build: Building) -> None:
        runner.watch(_("Building llama.cpp"), build.command, lambda: joined(build.progress(), beside()))

    wait(begun)
    for index, build in enumerate(ways):
        if index:
            with building(version, build, runner, place) as begun:
                wait(begun)
        try:
            begun.command.check()
            [wheel] = place.into.glob("*.whl")
            if not runs(wheel, place.into):
                wheel.unlink()
                raise SetupError(
                    _("What was built does not run here."),
                    hint=_("The whole output is in {log}").format(log=place.log),
                )
        except SetupError as error:
            if not build.failure:
                raise
            runner.screen.tell(build.failure.format(reason=error))
        else:
            return build, wheel
    raise AssertionError("the last way has no next one")


def write_placeholder(version: str, build: Build, folder: Path) -> Path:
    """A wheel without the library that stands in for llama-cpp-python while ``build`` makes it.

    pip can then install the rest, and the program knows what there will be: the package, and, by the name
    of a file, whether it can use a GPU. Its version is a local one: the wheel that is built replaces it.
    """
    stem = f"{STEM}-{version}+placeholder"
    wheel = folder / f"{stem}-py3-none-any.whl"
    metadata = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}+placeholder\nProvides-Extra: server\n"
    )
    tag = "Wheel-Version: 1.0\nGenerator: tanuki\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    backend = "cuda" if build.is_for_gpu else "metal" if sys.platform == "darwin" else "cpu"
    files = {
        "llama_cpp/__init__.py": "",
        f"llama_cpp/lib/libggml-{backend}.placeholder": "",
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": tag,
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*files, record))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel

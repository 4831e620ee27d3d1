"""What is installed into an environment, in what order, and where llama.cpp comes from."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.setup.meanwhile import Meanwhile
from tanuki_cli.engines.llama_cpp.building import compiling, kept, ready_made, ways
from tanuki_cli.engines.llama_cpp.building.running import Place, Runner, SetupError, temporary_folder
from tanuki_cli.i18n import _

LOCK_NAME: Final = "tanuki-environment.lock"
LOG_NAME: Final = "install.log"
TORCH: Final = "torch==2.13.0"  # the version the tests were written against; its CPU build is enough
_SELF_TEST: Final = "from tanuki_cli.engines.llama_cpp.self_test import check_answer; check_answer()"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment while it is made."""

    kind: str
    root: Path
    directory: Path
    runner: Runner
    meanwhile: Meanwhile

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.directory / "bin" / "python"

    def fill(self, *, new: bool) -> None:
        """Install everything, llama.cpp from what was built before, or elsewhere, or else built meanwhile.

        Raises SetupError, UserLeft, KeyboardInterrupt.
        """
        version = ways.required_version((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        if not new and self._has(version):
            self._install()
            return
        builds = ways.builds(os.environ, ways.find_nvcc(os.environ))
        wheel = kept.find(version, builds, os.environ, self.directory)
        index = "" if wheel else ready_made.index_for(builds, os.environ)
        if wheel is None and not index:
            ways.check_compiler(os.environ)
        if new:
            place = self.directory
            self.runner.screen.tell(_("Preparing the environment in {directory}.").format(directory=place))
            _empty(place)
            command = [sys.executable, "-I", "-m", "venv", str(self.directory)]
            self.runner.run(_("Making a Python environment"), command, log=self._log)
        with temporary_folder(self.directory) as into:
            if index and self._take_ready_made(index, version, into):
                return
            if wheel is not None:
                self.runner.screen.tell(
                    _("This is done once and takes about a minute; llama.cpp was built before.")
                )
                self._install(wheel)
                return
            ways.check_compiler(os.environ)
            self.runner.screen.tell(_announcement(builds[0]))
            self._build(version, builds, into)

    def _has(self, version: str) -> bool:
        return any(self.directory.glob(f"lib/python*/site-packages/{ways.STEM}-{version}.dist-info"))

    def _take_ready_made(self, index: str, version: str, into: Path) -> bool:
        """Install one that was built elsewhere, if there is one and it gives right answers here."""
        place = Place(python=self.python, into=into / "found", log=self._log)
        wheel = ready_made.find(index, version, self.runner, place, os.environ)
        if wheel is None:
            return False
        self.runner.screen.tell(
            _("This is done once and takes about a minute: a llama.cpp was found that is built already.")
        )
        self._install(wheel)
        test = [str(self.python), "-I", "-c", _SELF_TEST]
        try:
            self.runner.run(_("Testing llama.cpp"), test, log=self._log)
        except SetupError:
            self.runner.screen.tell(_("It does not work on this machine, so llama.cpp is built here."))
            kept.forget(wheel)
            return False
        if ready_made.is_slower_here():
            self.runner.screen.tell(
                _("This processor can do more than it uses. Built for it: {command}").format(
                    command="tanuki doctor --build"
                )
            )
        return True

    def _build(self, version: str, builds: tuple[ways.Build, ...], into: Path) -> None:
        log = self.directory / compiling.LOG_NAME
        place = Place(python=self.python, into=into / "built", log=log)
        with compiling.building(version, builds[0], self.runner, place) as begun:
            placeholder = compiling.write_placeholder(version, builds[0], into)
            self._install(placeholder, beside=begun.progress)
            self.meanwhile.ask(self.directory / "bin" / "tanuki", into)
            beside = self.meanwhile.progress
            way, wheel = compiling.finish(version, builds, begun, self.runner, place, beside=beside)
        name = kept.key(version, way, os.environ)
        # The extra that the project's own extras name, which the placeholder lacks.
        extra = "" if self.kind == "run" else "[server]"
        built = f"{kept.keep(wheel, name, version, os.environ)}{extra}"
        self.runner.run(_("Installing llama.cpp"), [*self._pip, built], log=self._log, beside=beside)

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


def _announcement(build: ways.Build) -> str:
    if os.environ.get("CMAKE_ARGS"):
        return _("This is done once and takes 3 to 60 minutes, with llama.cpp built as CMAKE_ARGS says.")
    if build.is_for_gpu:
        return _(
            "This is done once. An NVIDIA GPU was found; building llama.cpp for it takes 15 to 60 minutes."
        )
    return _("This is done once and takes 1 to 10 minutes; most of it is building llama.cpp.")


def _empty(directory: Path) -> None:
    """Remove everything but the lock."""
    for path in directory.iterdir():
        if path.name == LOCK_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

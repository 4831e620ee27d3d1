"""Building llama.cpp again in an environment in use: the old one stays until the new one passed its test."""

import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from tanuki_cli.engines.llama_cpp.building import compiling, kept, ways
from tanuki_cli.engines.llama_cpp.building.running import Place, Runner, Screen, SetupError, temporary_folder
from tanuki_cli.i18n import _

_ROOT: Final = Path(__file__).resolve().parents[4]
_TEST: Final = (
    "import sys; sys.path[:] = [sys.argv[1], *sys.path, sys.argv[2]]; "
    "from tanuki_cli.engines.llama_cpp.self_test import check_answer; check_answer()"
)


def renew(screen: Screen, log: Path, environ: Mapping[str, str]) -> None:
    """Build llama.cpp for this machine, test it, and put it in place of the one in this environment.

    What pip and the compiler print goes to ``log``. Raises SetupError; the old one is in place then.
    """
    ways.check_venv()
    ways.check_compiler(environ)
    version = ways.required_version(_requirements())
    builds = ways.builds(environ, ways.find_nvcc(environ))
    with temporary_folder(Path(sys.prefix)) as folder:
        runner = Runner(directory=folder, screen=screen)
        # With a pip of its own: environments of pipx and uv have none.
        making = (sys.executable, "-I", "-m", "venv", str(folder / "pip"))
        runner.run(_("Making a Python environment"), making, log=log)
        place = Place(python=folder / "pip" / "bin" / "python", into=folder / "built", log=log)
        with compiling.building(version, builds[0], runner, place) as begun:
            way, wheel = compiling.finish(version, builds, begun, runner, place)
        _test(wheel, folder / "unpacked", runner, log)
        wheel = kept.keep(wheel, kept.key(version, way, environ), version, environ)
        pip = (str(place.python), "-I", "-m", "pip", "--python", sys.executable, "install", "--no-input")
        options = ("--no-deps", "--no-index", "--force-reinstall", "--progress-bar=off")
        runner.run(_("Installing llama.cpp"), (*pip, *options, str(wheel)), log=log)


def _requirements() -> str:
    """What this program says that it needs, a line each."""
    try:
        return "\n".join(metadata.requires("tanuki-cli") or ())
    except metadata.PackageNotFoundError:  # not installed, only copied
        return (_ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _test(wheel: Path, folder: Path, runner: Runner, log: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    test = (sys.executable, "-I", "-c", _TEST, str(folder), str(_ROOT))
    try:
        runner.run(_("Testing llama.cpp"), test, log=log)
    except SetupError as exc:
        raise SetupError(
            _("What was built gives wrong answers, so the llama.cpp from before stays."),
            hint=_("The whole output is in {log}").format(log=log),
        ) from exc

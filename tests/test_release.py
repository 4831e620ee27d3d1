"""A release: the wheel and the sdist hold what they should and nothing else, and the wheel runs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import tomlkit

from tanuki_cli import __version__
from tests.support.program import ROOT, environment

MEGABYTE = 1_000_000
FOLDERS = ("tanuki_cli/", "tests/", "scripts/")
SINGLE = (".gitignore", ".pre-commit-config.yaml", "LICENSE", "README.md", "pyproject.toml")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files, built without a download.

    From a copy below a folder named as .gitignore names one, with an environment in it: hatchling
    ignores .gitignore there.
    """
    out = tmp_path_factory.mktemp("dist")
    project = tmp_path_factory.mktemp("above") / "build" / "project"
    project.mkdir(parents=True)
    for name in (*FOLDERS, ".ci/", ".github/"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SINGLE:
        shutil.copy(ROOT / name, project / name)
    (project / ".venv-test" / "bin").mkdir(parents=True)
    (project / ".venv-test" / "bin" / "python").symlink_to(sys.executable)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        f"tanuki_cli-{__version__}-py3-none-any.whl",
        f"tanuki_cli-{__version__}.tar.gz",
    ]
    return out


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    return next(release.glob("*.whl"))


@pytest.fixture(scope="module")
def in_sdist(release: Path) -> set[str]:
    with tarfile.open(next(release.glob("*.tar.gz"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def files_of(folder: str) -> set[str]:
    """The files of the project below ``folder``, without what is made by running it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", ".hypothesis"}.intersection(path.parts)
    }


def test_the_wheel_holds_the_package_without_its_sources_of_messages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in files_of("tanuki_cli") if not name.endswith(".po")}
    for part in ("docs/ja/chat.md", "locale/ja/LC_MESSAGES/tanuki.mo", "mame/mame-q8_0.gguf", "py.typed"):
        assert f"tanuki_cli/{part}" in names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"tanuki_cli-{__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        assert archive.read(f"{info}/entry_points.txt").decode().split() == [
            "[console_scripts]",
            "tanuki",
            "=",
            "tanuki_cli.__main__:main",
        ]
    assert (metadata["Name"], metadata["Version"]) == ("tanuki-cli", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_is_as_small_as_is_written_down(wheel: Path) -> None:
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    written = float(guide.partition("wheel is about ")[2].partition(" MB")[0])
    assert wheel.stat().st_size / MEGABYTE == pytest.approx(written, abs=0.5)


def test_the_sdist_holds_what_the_tests_need(in_sdist: set[str]) -> None:
    for folder in (*FOLDERS, ".ci", ".github"):
        assert files_of(folder) <= in_sdist
    rest = {name for name in in_sdist if not name.startswith((*FOLDERS, ".ci/", ".github/"))}
    assert rest == {*SINGLE, "PKG-INFO"}
    assert not [name for name in in_sdist if "__pycache__" in name or name.endswith(".pyc")]


def test_the_installed_wheel_answers(wheel: Path, tmp_path: Path) -> None:
    """From a folder of its own, with the packages of this environment."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = {**environment(tmp_path / "home"), "PYTHONPATH": str(site)}
    script = "import tanuki_cli.__main__ as start; print(start.__file__); start.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "ask", "-m", "mame", "-q", "あなたは誰?"],
        cwd=tmp_path,
        env={**env, "PATH": os.environ["PATH"]},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    place, _newline, answer = done.stdout.partition("\n")
    assert place.startswith(str(site)), done.stderr
    assert "豆だぬき" in answer


def test_the_version_stands_in_one_place() -> None:
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text(encoding="utf-8")).unwrap()["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]

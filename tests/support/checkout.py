"""A checkout with its scripts around a small project, whose environment needs no network and no compiler."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from scripts import compile_messages

ROOT = Path(__file__).parent.parent.parent
BUILDING = Path("tanuki_cli", "engines", "llama_cpp", "building")

# A build backend inside the project: `pip install --editable .` then runs without a download. It counts
# its runs, waits while the file "hold" exists, and fails with the text of the file "fail".
BACKEND = """
import pathlib, sys, time, zipfile

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    here = pathlib.Path.cwd()
    with (here / "builds").open("a") as builds:
        builds.write("x")
    while (here / "hold").exists():
        time.sleep(0.01)
    if (here / "fail").exists():
        sys.exit((here / "fail").read_text())
    name = "tanuki_cli-0.1.0-py3-none-any.whl"
    info = "tanuki_cli-0.1.0.dist-info/"
    head = "Metadata-Version: 2.1\\nName: tanuki-cli\\nVersion: 0.1.0\\n"
    extras = "Provides-Extra: dev\\nProvides-Extra: quantized\\n"
    needs = "Requires-Dist: torch>=2; extra == 'quantized'\\nRequires-Dist: llama-cpp-python>=0.3.36\\n"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("demo.pth", str(here))
        wheel.writestr(info + "METADATA", head + extras + needs)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\ntanuki = demo:main\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
# The program: what it was started with. It asks the first question and downloads as the real one does.
DEMO = """
import json, os, sys

def main():
    if file := os.environ.get("TANUKI_FIRST_CHOICE_FILE"):
        sys.stderr.write("Which? ")
        sys.stderr.flush()
        note = {"choice": input(), "model": "tanuki-8b:q4_k_m", "language": "en"}
        with open(file, "w") as choice:
            json.dump(note, choice)
        return
    if sys.argv[1:3] == ["pull", "--json"]:
        pull(sys.argv[3])
        return
    print(json.dumps({"arguments": sys.argv[1:], "input": sys.stdin.read(), "python": sys.executable}))
    if choice := os.environ.get("TANUKI_FIRST_CHOICE"):
        print("chosen:", choice)
    return 5 if "five" in sys.argv else 0

def pull(model):
    event = {"event": "progress", "bytes_done": 30, "bytes_total": 120, "seconds_left": 100}
    print(json.dumps(event), flush=True)
    here = os.path.dirname(__file__)
    open(os.path.join(here, "pulling"), "w").write(model)
    import time
    while os.path.exists(os.path.join(here, "slow")):
        time.sleep(0.01)
    open(os.path.join(here, "pulled"), "w").write(model)
    print(json.dumps({"event": "ready"}), flush=True)
"""
# In place of the practice model: whether there is a library, unless the file "wrong" says that it is bad.
SELF_TEST = """
import ctypes, importlib.util, pathlib

def check_answer():
    assert not (pathlib.Path(__file__).parents[3] / "wrong").exists()
    [package] = importlib.util.find_spec("llama_cpp").submodule_search_locations
    ctypes.CDLL(str(pathlib.Path(package, "lib", "libllama.so"))).llama_backend_init()
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
dependencies = ["llama-cpp-python>=0.3.36,<0.3.37"]
"""
# llama-cpp-python, as far as its build is watched: it writes down how it was built, runs a program in the
# temporary folder, where pip puts cmake, and prints what ninja prints. The file "wait" in its folder holds
# it, "broken" makes it fail where its text stands in CMAKE_ARGS, and with "crashes" the result is one for
# another processor.
LLAMA_BACKEND = """
import os, pathlib, subprocess, sys, tempfile, time, zipfile

FOLDER = pathlib.Path(%r)
PACKAGE = pathlib.Path(%r)

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    arguments = os.environ["CMAKE_ARGS"]
    with (FOLDER / "built").open("a") as built:
        built.write(arguments + "\\n")
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "cmake")
        program.write_text("#!/bin/sh")
        program.chmod(0o700)
        subprocess.run([program], check=True)
    print("[1/4] Building C object ggml.c.o", flush=True)
    while (FOLDER / "wait").exists():
        time.sleep(0.01)
    broken = FOLDER / "broken"
    if broken.exists() and broken.read_text() in arguments:
        sys.exit("CMake Error: no such variable")
    name = "llama_cpp_python-0.3.36-py3-none-any.whl"
    info = "llama_cpp_python-0.3.36.dist-info/"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for path in (*PACKAGE.glob("*.py"), *PACKAGE.glob("lib/lib*")):
            text = path.read_bytes()
            if path.name == "llama_cpp.py" and (FOLDER / "crashes").exists():
                text = "import os; os.kill(os.getpid(), 4)"
            wheel.writestr("llama_cpp/" + path.relative_to(PACKAGE).as_posix(), text)
        head = "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n"
        wheel.writestr(info + "METADATA", head)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def write_llama_cpp(directory: Path) -> None:
    """The sources of llama-cpp-python, for pip to find in ``directory``."""
    stem = "llama_cpp_python-0.3.36"
    spec = find_spec("llama_cpp")
    assert spec
    assert spec.submodule_search_locations
    [package] = spec.submodule_search_locations
    files = {
        "pyproject.toml": PYPROJECT.partition("[project]")[0],
        "backend.py": LLAMA_BACKEND % (str(directory), str(package)),
        "PKG-INFO": "Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n",
    }
    with tarfile.open(directory / f"{stem}.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def write_wheel(directory: Path, name: str, version: str, source: str) -> None:
    info = f"{name}-{version}.dist-info/"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", source)
        wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts around the small project."""

    root: Path
    wheels: Path

    @property
    def builds(self) -> int:
        path = self.root / "builds"
        return len(path.read_text()) if path.exists() else 0

    @property
    def llama_builds(self) -> list[str]:
        """CMake's arguments of each build of llama.cpp that was begun."""
        path = self.wheels / "built"
        return path.read_text().splitlines() if path.exists() else []

    def environ(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        base = {
            **kept,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "XDG_CACHE_HOME": str(self.wheels / "cache"),
        }
        changed = {**base, "TANUKI_PYTHON": sys.executable, "TERM": "dumb", **(changes or {})}
        return {name: value for name, value in changed.items() if value is not None}

    def start(
        self,
        *arguments: str,
        script: Path = Path("scripts/tanuki"),
        changes: Mapping[str, str | None] | None = None,
        stdin: str = "",
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.root / script), *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env=self.environ(changes),
            cwd=cwd or self.root,
            timeout=240,
        )

    def popen(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.root / "scripts" / "tanuki")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=self.environ(),
            start_new_session=True,
        )


def make_checkout(folder: Path) -> Checkout:
    """A new one below ``folder``, with the wheels that its pip finds."""
    root = folder / "a checkout"  # with a space
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    package = root / "tanuki_cli"
    package.mkdir()
    for name in (
        "__init__.py",
        "i18n.py",
        "errors.py",
        "files.py",
        "engines/__init__.py",
        "engines/llama_cpp/__init__.py",
    ):
        (package / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tanuki_cli" / name, package / name)
    shutil.copytree(ROOT / BUILDING, root / BUILDING, ignore=shutil.ignore_patterns("__pycache__"))
    (root / BUILDING).with_name("self_test.py").write_text(SELF_TEST)
    messages = compile_messages.merge((ROOT / "tanuki_cli" / "locale" / "ja").glob("*.po"))
    catalogue = package / "locale" / "ja" / "LC_MESSAGES" / "tanuki.mo"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(compile_messages.compile_catalogue(messages))
    for name, text in (("backend.py", BACKEND), ("demo.py", DEMO), ("pyproject.toml", PYPROJECT)):
        (root / name).write_text(text)
    wheels = folder / "wheels"
    wheels.mkdir()
    write_llama_cpp(wheels)
    return Checkout(root, wheels)


def links_to(directory: Path, *names: str) -> str:
    """A PATH with nothing but the named programs."""
    for name in names:
        program = shutil.which(name)
        assert program, name
        (directory / name).symlink_to(program)
    return str(directory)

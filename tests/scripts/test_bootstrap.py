"""The two start scripts, with the real pip and a small project that needs no network."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from scripts import bootstrap, compile_messages
from scripts.setup import llama_wheel, running
from tests.conftest import until

ROOT = Path(__file__).parent.parent.parent

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
DEMO = """
import json, sys

def main():
    print(json.dumps({"arguments": sys.argv[1:], "input": sys.stdin.read(), "python": sys.executable}))
    return 5 if "five" in sys.argv else 0
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
dependencies = ["llama-cpp-python>=0.3.36,<0.3.37"]
"""
# llama-cpp-python, as far as its build is watched: it writes down how it was built and prints what ninja
# prints. The file "wait" in its folder holds it, "broken" makes it fail where its text stands in CMAKE_ARGS.
LLAMA_BACKEND = """
import os, pathlib, sys, time, zipfile

FOLDER = pathlib.Path(%r)
LIBRARIES = pathlib.Path(%r)

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    arguments = os.environ["CMAKE_ARGS"]
    with (FOLDER / "built").open("a") as built:
        built.write(arguments + "\\n")
    print("[1/4] Building C object ggml.c.o", flush=True)
    while (FOLDER / "wait").exists():
        time.sleep(0.01)
    broken = FOLDER / "broken"
    if broken.exists() and broken.read_text() in arguments:
        sys.exit("CMake Error: no such variable")
    name = "llama_cpp_python-0.3.36-py3-none-any.whl"
    info = "llama_cpp_python-0.3.36.dist-info/"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for library in LIBRARIES.glob("lib*"):
            wheel.write(library, "llama_cpp/lib/" + library.name)
        wheel.writestr("llama_cpp/__init__.py", "")
        head = "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n"
        wheel.writestr(info + "METADATA", head)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def write_llama_cpp(directory: Path) -> None:
    """The sources of llama-cpp-python, for pip to find in ``directory``."""
    stem = "llama_cpp_python-0.3.36"
    [libraries] = (Path(path) / "lib" for path in find_spec("llama_cpp").submodule_search_locations or ())  # type: ignore[union-attr]
    files = {
        "pyproject.toml": PYPROJECT.partition("[project]")[0],
        "backend.py": LLAMA_BACKEND % (str(directory), str(libraries)),
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


@pytest.fixture(scope="module")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    def make() -> Checkout:
        root = tmp_path_factory.mktemp("a checkout")  # with a space
        shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        package = root / "tanuki_cli"
        package.mkdir()
        for name in ("__init__.py", "i18n.py"):
            shutil.copy(ROOT / "tanuki_cli" / name, package / name)
        messages = compile_messages.merge((ROOT / "tanuki_cli" / "locale" / "ja").glob("*.po"))
        catalogue = package / "locale" / "ja" / "LC_MESSAGES" / "tanuki.mo"
        catalogue.parent.mkdir(parents=True)
        catalogue.write_bytes(compile_messages.compile_catalogue(messages))
        for name, text in (("backend.py", BACKEND), ("demo.py", DEMO), ("pyproject.toml", PYPROJECT)):
            (root / name).write_text(text)
        wheels = tmp_path_factory.mktemp("wheels")
        write_llama_cpp(wheels)
        return Checkout(root, wheels)

    return make


@pytest.fixture(scope="module")
def installed(make_checkout: Callable[[], Checkout]) -> Checkout:
    """A checkout after its first start."""
    checkout = make_checkout()
    result = checkout.start("ask", "a  b", stdin="piped")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "arguments": ["ask", "a  b"],
        "input": "piped",
        "python": str(checkout.root / ".venv" / "bin" / "python"),
    }
    assert "This is done once" in result.stderr
    assert "minutes" in result.stderr
    assert "Done in 0:" in result.stderr
    assert "\x1b" not in result.stderr
    return checkout


def test_a_later_start_runs_no_other_python_and_says_nothing(installed: Checkout) -> None:
    builds = installed.builds
    result = installed.start("five", stdin="piped", changes={"TANUKI_PYTHON": "/nonexistent"})
    assert (result.returncode, result.stderr) == (5, "")
    assert json.loads(result.stdout)["input"] == "piped"
    assert installed.builds == builds


def test_starts_through_a_link_from_a_directory_with_shadowing_names(
    installed: Checkout, tmp_path: Path
) -> None:
    for name in ("json.py", "demo.py", "tanuki_cli.py", "scripts.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tanuki").symlink_to(installed.root / "scripts" / "tanuki")
    (installed.root / "pyproject.toml").touch()  # so that the bootstrap runs, too
    result = installed.start(script=tmp_path / "bin" / "tanuki", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def change_pyproject(checkout: Checkout, text: str) -> None:
    """Add ``text`` to pyproject.toml and make it newer than the stamp."""
    path = checkout.root / "pyproject.toml"
    path.write_text(path.read_text() + text)
    newer = (checkout.root / ".venv" / "complete").stat().st_mtime + 10
    os.utime(path, (newer, newer))


def test_a_changed_project_is_installed_again_and_a_touched_one_is_not(installed: Checkout) -> None:
    builds = installed.builds
    change_pyproject(installed, "")
    assert installed.start().stderr == ""
    assert installed.builds == builds
    assert installed.start(changes={"TANUKI_PYTHON": "/nonexistent"}).returncode == 0

    marker = installed.root / ".venv" / "still-the-same"
    marker.touch()
    change_pyproject(installed, "# changed\n")
    assert installed.start().stderr.startswith("The project has changed: ")
    assert installed.builds == builds + 1
    assert marker.exists()


def test_an_environment_of_another_checkout_is_not_used(installed: Checkout, tmp_path: Path) -> None:
    moved = Checkout(tmp_path / "moved", installed.wheels)
    shutil.copytree(installed.root, moved.root, ignore=shutil.ignore_patterns(".venv"))
    old, new = installed.root / ".venv", moved.root / ".venv"
    (new / "bin").mkdir(parents=True)
    (new / "bin" / "python").symlink_to(sys.executable)
    for name in (bootstrap.LOCK_NAME, bootstrap.STAMP_NAME):
        shutil.copy2(old / name, new / name)
    result = moved.start(changes={"TANUKI_PYTHON": "/nonexistent"})
    assert (result.returncode, result.stdout) == (1, "")
    assert bootstrap.stamp_lines(new)[0] == str(installed.root)


def test_another_directory_is_never_emptied(installed: Checkout, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("…")
    result = installed.start(changes={"TANUKI_VENV": str(tmp_path)})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"error: {tmp_path} exists and was not made by this script.",
        "Remove it, or choose another place with TANUKI_VENV=DIRECTORY.",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def running_under(root: Path) -> list[psutil.Process]:
    """Processes that work in the checkout at ``root``, but not the scripts that started them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(root) and "pip" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_an_interrupted_start_and_a_killed_one_leave_nothing_that_a_later_one_trips_over(
    make_checkout: Callable[[], Checkout],
) -> None:
    checkout = make_checkout()
    hold = checkout.root / "hold"
    hold.touch()

    # Ctrl-C in the middle of the build: everything ends, and one sentence says so.
    first = checkout.popen()
    until(lambda: checkout.builds == 1, timeout_s=200)
    os.killpg(first.pid, signal.SIGINT)
    _output, errors = first.communicate(timeout=30)
    assert first.returncode in (130, -signal.SIGINT)
    assert errors.endswith("Stopped. The next start begins again, with what is built already.\n")
    assert running_under(checkout.root) == []

    # A kill of the script alone: pip lives on, and the next start waits for its end.
    second = checkout.popen()
    until(lambda: checkout.builds == 2, timeout_s=200)
    for child in psutil.Process(second.pid).children():
        child.kill()
    second.communicate(timeout=30)
    assert running_under(checkout.root)
    third = checkout.popen()
    assert third.stderr is not None
    assert third.stderr.readline().startswith("Another start is making the environment")
    hold.unlink()
    output, errors = third.communicate(timeout=200)
    assert third.returncode == 0, errors
    assert json.loads(output)["arguments"] == []
    assert checkout.builds == 3


def test_two_starts_at_once_build_once(installed: Checkout) -> None:
    hold = installed.root / "hold"
    hold.touch()
    builds = installed.builds
    change_pyproject(installed, "# for two\n")
    first = installed.popen()
    until(lambda: installed.builds == builds + 1, timeout_s=200)
    second = installed.popen()
    assert second.stderr is not None
    assert second.stderr.readline().startswith("Another start is making the environment")
    hold.unlink()
    for process in (first, second):
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert json.loads(output)["arguments"] == []
    assert installed.builds == builds + 1


def test_a_failed_build_is_one_sentence_and_the_log(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    (checkout.root / "fail").write_text("ninja: build stopped: subcommand failed.")
    result = checkout.start()
    log = checkout.root / ".venv" / "install.log"
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-2:] == [
        "error: llama.cpp could not be built.",
        f"The whole output is in {log}",
    ]
    assert "ninja: build stopped" in log.read_text()
    assert "Traceback" not in result.stderr
    assert not (checkout.root / ".venv" / "complete").exists()


def test_llama_cpp_is_built_once_for_every_checkout_and_python(
    make_checkout: Callable[[], Checkout],
) -> None:
    first, second = make_checkout(), make_checkout()
    second = Checkout(second.root, first.wheels)
    assert "most of it is building llama.cpp" in first.start().stderr
    [arguments] = first.llama_builds
    assert "-DLLAVA_BUILD=OFF" in arguments
    assert str(first.root / "scripts" / "setup" / "llama_cpp.cmake") in arguments  # whose path has a space

    # Without a compiler: none is needed.
    (second.wheels / "bin").mkdir()
    path = links_to(second.wheels / "bin", "sh", "dirname")
    result = second.start(changes={"PATH": path})
    assert (result.returncode, len(first.llama_builds)) == (0, 1), result.stderr
    assert "llama.cpp was built before" in result.stderr

    # Other flags or another processor are another wheel.
    keys = {
        llama_wheel.key("0.3.36", build, environ)
        for build in llama_wheel.builds({}, None)
        for environ in ({}, {"CFLAGS": "-O2"}, {"CC": "clang"}, {"HOME": "/x", "CCACHE_DIR": "/y"})
    }
    assert len(keys) == 6


def test_a_kept_wheel_that_does_not_run_is_built_again(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    checkout.start()
    [kept] = (checkout.wheels / "cache").rglob("*.whl")
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("llama_cpp/lib/libllama.so", "for another machine")
    shutil.rmtree(checkout.root / ".venv")
    result = checkout.start()
    assert (result.returncode, len(checkout.llama_builds)) == (0, 2), result.stderr
    assert llama_wheel.runs(kept)


def test_where_the_trimmed_build_fails_all_is_built(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    (checkout.wheels / "broken").write_text("LLAVA_BUILD")
    result = checkout.start()
    assert result.returncode == 0, result.stderr
    assert "so all of it is built: llama.cpp could not be built." in result.stderr
    trimmed, plain = checkout.llama_builds
    assert "LLAVA_BUILD" in trimmed
    assert plain == ""

    (checkout.wheels / "broken").write_text("")
    shutil.rmtree(checkout.root / ".venv")
    shutil.rmtree(checkout.wheels / "cache")
    result = checkout.start()
    log = checkout.root / ".venv" / llama_wheel.LOG_NAME
    assert (result.returncode, result.stderr.splitlines()[-2:]) == (
        1,
        ["error: llama.cpp could not be built.", f"The whole output is in {log}"],
    )
    assert "CMake Error" in log.read_text()


def test_a_terminal_shows_how_far_the_compiler_is_while_packages_are_installed(
    make_checkout: Callable[[], Checkout],
) -> None:
    checkout = make_checkout()
    wait = checkout.wheels / "wait"
    wait.touch()
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(checkout.root / "scripts" / "tanuki")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=checkout.environ({"TERM": "xterm", "LANG": "ja_JP.UTF-8"}),
    )
    os.close(terminal)
    shown = b""
    while "llama.cpp のビルド…".encode() not in shown:  # all packages are in, and the compiler goes on
        shown += os.read(screen, 4096)
    assert "llama.cpp: 4 個中 1 個".encode() in shown
    wait.unlink()
    while "準備が終わりました".encode() not in shown:
        shown += os.read(screen, 4096)
    assert process.wait(timeout=100) == 0
    os.close(screen)


def test_the_time_left_is_no_more_exact_than_it_is_known() -> None:
    assert list(map(llama_wheel.rough, (3, 44, 59, 61, 100, 400))) == [
        "10 s", "40 s", "60 s", "1 min", "2 min", "7 min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full."),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for torch",
            "The packages could not be downloaded: there is no connection to the package server.",
        ),
        (
            "ProxyError('Cannot connect to proxy.')",
            "The packages could not be downloaded: the proxy refused the connection.",
        ),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]",
            "The packages could not be downloaded: the server's certificate is not trusted.",
        ),
        (
            "ERROR: No matching distribution found for torch",
            "A package that tanuki needs is not offered for this Python or machine.",
        ),
        ("strange", "Making the environment failed."),
    ],
)
def test_the_reason_of_a_failure_is_named(output: str, sentence: str) -> None:
    assert running.likely_reason(output) == sentence


def links_to(directory: Path, *names: str) -> str:
    """A PATH with nothing but the named programs."""
    for name in names:
        program = shutil.which(name)
        assert program, name
        (directory / name).symlink_to(program)
    return str(directory)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "エラー: Python 3.10 以降が見つかりません。"),
        ({"TANUKI_LANG": "en", "LANG": "ja_JP.UTF-8"}, "error: Python 3.10 or later was not found."),
        ({"LC_ALL": "C", "LANG": "ja_JP.UTF-8"}, "error: Python 3.10 or later was not found."),
    ],
)
def test_without_python(
    make_checkout: Callable[[], Checkout], tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    path = links_to(tmp_path, "sh", "dirname")
    result = make_checkout().start(changes={"PATH": path, "TANUKI_PYTHON": None, **variables})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == sentence
    assert len(result.stderr.splitlines()) == 2


def test_without_a_compiler_in_japanese(make_checkout: Callable[[], Checkout], tmp_path: Path) -> None:
    path = links_to(tmp_path, "sh", "dirname")
    changes = {"PATH": path, "LANG": "ja_JP.UTF-8", "PYTHONUTF8": "1"}
    result = make_checkout().start(changes=changes)
    assert result.returncode == 1
    assert result.stderr.startswith("エラー: ")
    assert "C++" in result.stderr.splitlines()[0]


def program(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("nvidia_smi", "nvcc", "gpu"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", "exit 0", True),
        ("echo 'NVIDIA-SMI has failed'; exit 9", "exit 0", False),
        ("echo 'No devices found.'", "exit 0", False),
        (None, "exit 0", False),
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", None, False),
    ],
)
def test_cuda_only_with_a_working_gpu_and_nvcc(
    tmp_path: Path, nvidia_smi: str | None, nvcc: str | None, gpu: bool
) -> None:
    for name, body in (("nvidia-smi", nvidia_smi), ("nvcc", nvcc)):
        if body is not None:
            program(tmp_path, name, body)
    nvcc_found = llama_wheel.find_nvcc(
        {}, which=lambda name: None if "/" in name else shutil.which(name, path=str(tmp_path))
    )
    assert nvcc_found == (str(tmp_path / "nvcc") if gpu else None)
    ways = llama_wheel.builds({}, nvcc_found)
    assert ["-DGGML_CUDA=on" in way.arguments for way in ways] == [True, False, False][0 if gpu else 1 :]
    assert not gpu or ways[0].variables == {"CUDACXX": str(tmp_path / "nvcc")}


def test_cmake_args_of_the_user_win() -> None:
    trimmed, plain = llama_wheel.builds({"CMAKE_ARGS": "-DGGML_VULKAN=on"}, "/usr/bin/nvcc")
    assert trimmed.arguments.endswith(" -DGGML_VULKAN=on")
    assert plain.arguments == "-DGGML_VULKAN=on"
    assert (trimmed.variables, plain.variables) == ({}, {})


def test_the_test_environment_keeps_its_torch_and_passes_arguments_on(
    make_checkout: Callable[[], Checkout],
) -> None:
    checkout = make_checkout()
    for version in ("2.13.0", "2.14.0"):
        write_wheel(checkout.wheels, "torch", version, f"__version__ = {version!r}")
    result = checkout.start("-k", "a b", script=Path("scripts/test"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("No module named pytest")
    assert (checkout.root / ".venv-test" / "complete").exists()

    packages = checkout.root / ".venv-test" / "lib"
    [site] = packages.glob("python*/site-packages")
    assert (site / "torch-2.13.0.dist-info").is_dir()
    (site / "pytest.py").write_text("import sys; print(sys.argv[1:])")
    result = checkout.start("-k", "a b", script=Path("scripts/test"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "['-k', 'a b']\n", "")


def test_the_fast_tests_need_no_torch_and_take_the_whole_environment_where_it_is(
    make_checkout: Callable[[], Checkout],
) -> None:
    checkout = make_checkout()
    script = Path("scripts/test")
    assert checkout.start("--fast", script=script).stderr.splitlines()[-1].endswith("No module named pytest")
    [site] = (checkout.root / ".venv-fast" / "lib").glob("python*/site-packages")
    assert not (site / "torch").exists()
    (site / "pytest.py").write_text("import sys; print(sys.prefix, sys.argv[1:])")
    result = checkout.start("--fast", "-k", "a b", script=script)
    assert result.stdout == f"{checkout.root / '.venv-fast'} ['-m', 'not slow', '-k', 'a b']\n"

    write_wheel(checkout.wheels, "torch", "2.13.0", "")
    checkout.start(script=script)
    [whole] = (checkout.root / ".venv-test" / "lib").glob("python*/site-packages")
    (whole / "pytest.py").write_text((site / "pytest.py").read_text())
    assert (
        checkout.start("--fast", script=script).stdout
        == f"{checkout.root / '.venv-test'} ['-m', 'not slow']\n"
    )

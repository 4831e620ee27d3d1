"""The two start scripts, with the real pip and a small project that needs no network."""

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scripts import bootstrap
from scripts.setup.filling import LOCK_NAME
from scripts.setup.screen import Stderr
from tanuki_cli.engines.llama_cpp.building import compiling, kept, renewal, running, ways
from tests.conftest import until
from tests.support.checkout import BUILDING, ROOT, Checkout, links_to, write_wheel
from tests.support.checkout import make_checkout as new_checkout


@pytest.fixture(scope="module")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    return lambda: new_checkout(tmp_path_factory.mktemp("made"))


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


def test_it_needs_nothing_but_a_python() -> None:
    """``-S`` leaves out what is installed beside the standard library: the Python of the tests has it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import scripts.bootstrap"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    script = tmp_path / "bin" / "tanuki"
    result = installed.start(script=script, cwd=tmp_path, changes={"PYTHONSAFEPATH": "1"})
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
    for name in (LOCK_NAME, bootstrap.STAMP_NAME):
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


@pytest.mark.parametrize("venv", ["file", "file/venv"])
def test_where_no_folder_can_be_another_place_is_named(
    installed: Checkout, tmp_path: Path, venv: str
) -> None:
    (tmp_path / "file").write_text("…")
    result = installed.start(changes={"TANUKI_VENV": str(tmp_path / venv)})
    assert (result.returncode, result.stdout) == (1, "")
    sentence, hint = result.stderr.splitlines()
    assert sentence.startswith(f"error: {tmp_path / venv}")
    assert hint.endswith("hoose another place with TANUKI_VENV=DIRECTORY.")
    assert (tmp_path / "file").read_text() == "…"


def test_a_home_that_nobody_knows_is_one_sentence(make_checkout: Callable[[], Checkout]) -> None:
    result = make_checkout().start(changes={"TANUKI_HOME": "~nobody-of-this-name/tanuki"})
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: The home directory of ~nobody-of-this-name/tanuki is not known.",
        "export TANUKI_HOME=/path/to/tanuki",
    ]


def test_a_pip_that_installs_for_the_user_does_not_do_so_here(
    make_checkout: Callable[[], Checkout], tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nuser = true\n[install]\nuser = true\n")
    result = make_checkout().start(changes={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert result.returncode == 0, result.stderr


def test_an_interrupt_before_the_first_word_leaves_none(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    with (checkout.root / "tanuki_cli" / "i18n.py").open("a") as module:
        module.write("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    result = checkout.start()
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_a_second_interrupt_ends_at_once_what_the_first_asked_to_end() -> None:
    script = """
import signal, time
signal.signal(signal.SIGINT, lambda *_: print("asked", flush=True))
print("begun", flush=True)
while True:
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    output = process.stdout
    assert output is not None
    assert output.readline() == b"begun\n"

    def interrupt() -> None:
        assert output.readline() == b"asked\n"
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    user = threading.Thread(target=interrupt)
    try:
        user.start()
        with pytest.raises(KeyboardInterrupt):
            running.end_group(process)
    finally:
        signal.signal(signal.SIGINT, before)
        user.join()
        output.close()
    assert process.returncode == -signal.SIGKILL


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
    assert first.returncode == 130
    assert errors.endswith("Stopped. The next start begins again, with what is built already.\n")
    assert running_under(checkout.root) == []

    # A kill of the script alone: pip lives on, and the next start waits for its end.
    second = checkout.popen()
    until(lambda: checkout.builds == 2, timeout_s=200)
    second.kill()
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
    assert str(first.root / BUILDING / "llama_cpp.cmake") in arguments  # whose path has a space

    # Without a compiler: none is needed.
    (second.wheels / "bin").mkdir()
    path = links_to(second.wheels / "bin", "sh", "dirname")
    result = second.start(changes={"PATH": path})
    assert (result.returncode, len(first.llama_builds)) == (0, 1), result.stderr
    assert "llama.cpp was built before" in result.stderr

    # Other flags or another processor are another wheel.
    keys = {
        kept.key("0.3.36", build, environ)
        for build in ways.builds({}, None)
        for environ in ({}, {"CFLAGS": "-O2"}, {"CC": "clang"}, {"HOME": "/x", "CCACHE_DIR": "/y"})
    }
    assert len(keys) == 6


def test_a_temporary_folder_where_nothing_may_be_run_is_no_obstacle(
    make_checkout: Callable[[], Checkout], tmp_path: Path
) -> None:
    """Many servers mount /tmp like that. Neither what was built nor what was kept is taken for broken."""
    mounted = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o noexec none "$TMPDIR" && exec "$0" "$@"')
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*mounted, "true"], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True
        ).returncode
    ):
        pytest.skip("nobody may mount here")
    checkout = make_checkout()
    for _start in ("built", "kept"):
        result = subprocess.run(
            [*mounted, str(checkout.root / "scripts" / "tanuki")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=checkout.environ({"TMPDIR": str(tmp_path)}),
        )
        assert (result.returncode, len(checkout.llama_builds)) == (0, 1), result.stderr
        assert not [path for path in (checkout.root / ".venv").glob("tanuki-*") if path.is_dir()]
        shutil.rmtree(checkout.root / ".venv")


def test_a_kept_wheel_that_does_not_run_is_built_again(
    make_checkout: Callable[[], Checkout], tmp_path: Path
) -> None:
    checkout = make_checkout()
    checkout.start()
    [wheel] = (checkout.wheels / "cache").rglob("*.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llama_cpp/lib/libllama.so", "for another machine")
    shutil.rmtree(checkout.root / ".venv")
    result = checkout.start()
    assert (result.returncode, len(checkout.llama_builds)) == (0, 2), result.stderr
    assert kept.runs(wheel, tmp_path)


def test_two_that_keep_the_same_wheel_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"TANUKI_HOME": str(tmp_path)}
    wheel = tmp_path / f"{ways.STEM}-0.3.36-py3-none-any.whl"
    wheel.write_bytes(b"whole")
    copyfile = shutil.copyfile
    others: list[Path] = []

    def interleaved(source: Path, target: Path) -> None:
        copyfile(source, target)
        if not others:
            others.append(wheel)
            others.append(kept.keep(wheel, "key", "0.3.36", environ))

    monkeypatch.setattr(shutil, "copyfile", interleaved)
    found = kept.keep(wheel, "key", "0.3.36", environ)
    assert found == others[1] == kept.wheel_directory(environ) / "key" / wheel.name
    assert found.read_bytes() == b"whole"
    assert list(found.parent.iterdir()) == [found]


def test_nothing_is_left_of_a_wheel_that_does_not_fit_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_it_is_full(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", until_it_is_full)
    environ, wheel = {"TANUKI_HOME": str(tmp_path)}, tmp_path / f"{ways.STEM}-0.3.36-py3-none-any.whl"
    wheel.touch()
    assert kept.keep(wheel, "key", "0.3.36", environ) == wheel
    assert list((kept.wheel_directory(environ) / "key").iterdir()) == []


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
    log = checkout.root / ".venv" / compiling.LOG_NAME
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
    assert list(map(compiling.rough, (3, 44, 59, 61, 100, 400))) == [
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
            "Can't connect to HTTPS URL because the SSL module is not available.",
            "The packages could not be downloaded: this Python was built without its ssl module.",
        ),
        (
            "c++: fatal error: Killed signal terminated program cc1plus\nninja: build stopped.",
            "There is not enough memory to build llama.cpp.",
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


def test_without_venv_llama_cpp_is_not_even_begun_to_be_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "find_spec", lambda name: None)
    with pytest.raises(running.SetupError, match="cannot make environments") as raised:
        renewal.renew(Stderr(), tmp_path / "log", os.environ)
    assert raised.value.hint == "sudo apt install python{}.{}-venv".format(*sys.version_info)


def test_without_a_compiler_in_japanese(make_checkout: Callable[[], Checkout], tmp_path: Path) -> None:
    path = links_to(tmp_path, "sh", "dirname")
    changes = {"PATH": path, "LANG": "ja_JP.UTF-8", "PYTHONUTF8": "1"}
    result = make_checkout().start(changes=changes)
    assert result.returncode == 1
    assert result.stderr.startswith("エラー: ")
    assert "C++" in result.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("apt", "sudo apt install g++"),
        ("dnf", "sudo dnf install gcc-c++"),
        ("pacman", "sudo pacman -S gcc"),
        ("nix", "Install g++ or clang++."),
    ],
)
def test_a_compiler_comes_by_the_program_that_is_there(
    monkeypatch: pytest.MonkeyPatch, there: str, hint: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(running.SetupError) as caught:
        ways.check_compiler({}, which=lambda name: name if name == there else None)
    assert caught.value.hint == hint


def test_a_python_that_is_named_and_is_none(make_checkout: Callable[[], Checkout]) -> None:
    result = make_checkout().start(changes={"TANUKI_PYTHON": "/nonexistent/python"})
    assert result.stderr.splitlines() == [
        "error: TANUKI_PYTHON names /nonexistent/python, which is no Python 3.10 or later.",
        "Try: name another one, or unset TANUKI_PYTHON",
    ]


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
    nvcc_found = ways.find_nvcc(
        {}, which=lambda name: None if "/" in name else shutil.which(name, path=str(tmp_path))
    )
    assert nvcc_found == (str(tmp_path / "nvcc") if gpu else None)
    found = ways.builds({}, nvcc_found)
    assert ["-DGGML_CUDA=on" in way.arguments for way in found] == [True, False, False][0 if gpu else 1 :]
    assert not gpu or found[0].variables == {"CUDACXX": str(tmp_path / "nvcc")}


def test_cmake_args_of_the_user_win() -> None:
    trimmed, plain = ways.builds({"CMAKE_ARGS": "-DGGML_VULKAN=on"}, "/usr/bin/nvcc")
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
    # All tests are shared out to several processes; a choice of them runs in one, which starts sooner.
    assert checkout.start(script=Path("scripts/test")).stdout == "['--numprocesses=auto']\n"


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
        == f"{checkout.root / '.venv-test'} ['-m', 'not slow', '--numprocesses=auto']\n"
    )

"""What the program says where a package is missing or broken: one sentence, and a line that mends it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomlkit

from scripts.practice import formats
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.machine import packages
from tanuki_cli.machine.packages import QUANTIZED, TRANSFORMERS, install_extra, pip_install, rebuild_llama_cpp
from tests.support.program import ROOT, Terminal, run

# A Python that starts with this cannot find the packages in HIDE, whoever asks for them.
HIDING = """
import importlib.machinery as machinery, os
hidden = set(os.environ["HIDE"].split(","))
find = machinery.PathFinder.find_spec.__func__
machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None:
        None if name.partition(".")[0] in hidden else find(cls, name, path, target)
)
"""


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = practice_model()
    assert model.tokenizer is not None
    folder = tmp_path_factory.mktemp("forms")
    formats.write_all(model.path, model.tokenizer, folder)
    return folder


def hiding(home: Path, packages: str) -> dict[str, str]:
    """The environment variables of a Python where ``packages`` are not installed."""
    (home / "hiding").mkdir(exist_ok=True)
    (home / "hiding" / "sitecustomize.py").write_text(HIDING, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), str(home / "hiding")]), "HIDE": packages}


def without(home: Path, hidden: str, *arguments: str, lang: str = "en") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program where ``hidden`` is not installed."""
    done = run(home, *arguments, env={**hiding(home, hidden), "TANUKI_LANG": lang})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("engine", "hidden", "extra"),
    [
        ("full", ",".join(TRANSFORMERS), "transformers"),
        ("full", "accelerate", "transformers"),
        ("full", "safetensors", "transformers"),
        ("awq", ",".join([*TRANSFORMERS, "gptqmodel"]), "quantized"),
        ("awq", "gptqmodel", "quantized"),
        ("gptq-4bit", ",".join([*TRANSFORMERS, *QUANTIZED["gptq"]]), "quantized"),
        ("gptq-8bit", "optimum", "quantized"),
    ],
)
def test_one_line_installs_all_that_a_checkpoint_needs(
    tmp_path: Path, forms: Path, engine: str, hidden: str, extra: str
) -> None:
    code, out, err = without(tmp_path, hidden, "ask", "-m", str(forms / engine), "hi")
    sentence, hint = err.splitlines()
    assert (code, out) == (6, "")
    assert sentence.endswith(f"not installed: {hidden.replace(',', ', ')}.")
    assert hint == f"  Hint: {install_extra('quantized' if extra == 'quantized' else 'transformers')}"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_without_the_extras_everything_else_works(tmp_path: Path, forms: Path, lang: str) -> None:
    extras = ",".join([*TRANSFORMERS, *QUANTIZED["gptq"]])
    code, out, _err = without(tmp_path, extras, "ask", "-m", "mame", "あなたは誰?", lang=lang)
    assert (code, "豆だぬき" in out) == (0, True)
    code, _out, err = without(tmp_path, extras, "models", "--all", lang=lang)
    assert (code, err) == (0, "")
    code, out, err = without(tmp_path, extras, "doctor", "--offline", lang=lang)
    assert code == 0
    assert install_extra("transformers") in out
    for command in (("bench",), ("ask", "hi"), ("chat",)):
        code, _out, err = without(tmp_path, extras, *command, "-m", str(forms / "awq"), lang=lang)
        assert code == 6, err
        assert err.splitlines()[-1].endswith(install_extra("quantized"))


def test_llama_cpp_that_is_missing_gets_the_line_that_installs_it(tmp_path: Path) -> None:
    line = pip_install("llama-cpp-python")
    code, _out, err = without(tmp_path, "llama_cpp", "ask", "-m", "mame", "hi")
    assert (code, err) == (6, f"Error: llama.cpp is not installed.\n  Hint: {line}\n")
    code, _out, err = without(tmp_path, "llama_cpp", "ask", "hi")
    assert code == 4
    assert "llama.cpp is not installed." in err
    assert err.endswith(f"  Hint: {line}\n")
    with Terminal(tmp_path, ["chat"], columns=200, env=hiding(tmp_path, "llama_cpp")) as terminal:
        assert terminal.wait_for_exit() == 4  # the practice model, which cannot run either, is not offered
        assert line in terminal.text
    _code, out, _err = without(tmp_path, "llama_cpp", "doctor", "--offline")
    assert out.count(f"→ {line}") == 2  # at the machine, which can run nothing, and at the engine


@pytest.mark.parametrize("library", [b"", b"\x7fELF of another machine"], ids=["missing", "foreign"])
def test_llama_cpp_that_cannot_be_loaded_gets_the_line_that_builds_it(tmp_path: Path, library: bytes) -> None:
    """The Python files of the real package, with libraries that are missing or of another kind."""
    import llama_cpp

    real = Path(str(llama_cpp.__file__)).parent
    shutil.copytree(real, tmp_path / "llama_cpp", ignore=lambda _folder, names: [*{"lib"} & {*names}])
    (tmp_path / "llama_cpp" / "lib").mkdir()
    for path in (real / "lib").iterdir() if library else ():
        (tmp_path / "llama_cpp" / "lib" / path.name).write_bytes(library)
    done = run(
        tmp_path, "ask", "-m", "mame", "hi", env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    )
    assert done.returncode == 6, done.stderr
    sentence, hint = done.stderr.splitlines()
    assert sentence.startswith("Error: llama.cpp cannot be loaded: ")
    assert hint == f"  Hint: {rebuild_llama_cpp('')}"


def test_torch_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path, forms: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so: cannot open')", "utf-8")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = run(tmp_path, "ask", "-m", str(forms / "full"), "hi", env={"PYTHONPATH": path})
    assert done.returncode == 6, done.stderr
    sentence, hint = done.stderr.splitlines()
    assert sentence == "Error: torch or transformers cannot be loaded: libcudart.so: cannot open"
    assert "--force-reinstall" in hint


def test_without_pip_the_hint_is_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """uv makes environments without it, also for pipx."""
    monkeypatch.setattr(packages, "PathFinder", SimpleNamespace(find_spec=lambda name: None))
    assert pip_install("torch>=2.13") == shlex.join(
        ["uv", "pip", "install", "--python", sys.executable, "torch>=2.13"]
    )
    assert rebuild_llama_cpp("").startswith("uv pip install --python ")


def test_looking_for_pip_keeps_nothing_from_being_imported() -> None:
    """setuptools, which torch imports to compile, notices when somebody asks for pip."""
    code = "from tanuki_cli.machine.packages import pip_install; pip_install('x'); import setuptools"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_this_program_is_never_asked_of_a_package_index() -> None:
    """Where its name may be somebody else's."""
    asks = re.compile(r"(pip|pipx|uv)[^\n\"']* (install|upgrade)[^\n\"']* tanuki-cli")
    for path in (ROOT / "tanuki_cli").rglob("*"):
        if path.suffix in (".py", ".po", ".md"):
            assert not asks.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("extra", ["transformers", "quantized"])
def test_outside_a_checkout_the_packages_are_named_one_by_one(tmp_path: Path, extra: str) -> None:
    """This program is on no package index, so that its own name cannot be given to pip."""
    shutil.copytree(ROOT / "tanuki_cli", tmp_path / "tanuki_cli")
    code = f"from tanuki_cli.machine.packages import install_extra; print(install_extra({extra!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    python, dash_m, pip, install, *packages = shlex.split(done.stdout)
    assert (python, dash_m, pip, install) == (sys.executable, "-m", "pip", "install")
    extras = tomlkit.parse((ROOT / "pyproject.toml").read_text("utf-8")).unwrap()["project"][
        "optional-dependencies"
    ]
    wanted = [*extras["transformers"], *(extras["quantized"] if extra == "quantized" else ())]
    names = {re.split("[<>]", package)[0] for package in packages}
    assert names == {re.split("[<>]", name)[0] for name in wanted if not name.startswith("tanuki-cli")}
    assert all(set(package) & {"<", ">"} for package in packages)

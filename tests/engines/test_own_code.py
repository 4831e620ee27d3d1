"""Models that bring Python code, as Tanuki-8x8B does: pulled, asked about, and only then run.

The real hub client talks to a small hub on loopback, which has the practice model's weights as a
checkpoint of an architecture of its own.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.practice.export import read_gguf
from scripts.practice.formats import write_safetensors
from tanuki_cli.catalog.practice import practice_model
from tests.support.hub_server import COMMIT, Hub, running_hub
from tests.support.lazy import lazy_imports
from tests.support.program import Terminal, run

with lazy_imports():
    from tests.support.checkpoints import edit_config

MODEL = "tanuki-8x8b:full"
REPOSITORY = "weblab-GENIAC/Tanuki-8x8B-dpo-v1.0"
QUESTION = ("--temperature", "0", "あなたは誰?")
MODELING = """
from pathlib import Path
from transformers import LlamaForCausalLM
from .configuration_tanuki import TanukiConfig
from .moe import nothing

Path({marker!r}).touch()


class TanukiForCausalLM(LlamaForCausalLM):
    config_class = TanukiConfig
"""
CODE = {
    "configuration_tanuki.py": "from transformers import LlamaConfig\n\n\n"
    'class TanukiConfig(LlamaConfig):\n    model_type = "tanuki"\n',
    "moe.py": "nothing = None\n",
}
BYSTANDERS = {"setup.py": "raise SystemExit", "tokenization_tanuki.py": "raise SystemExit"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    model = practice_model()
    assert model.tokenizer is not None
    write_safetensors(folder, *read_gguf(model.path), model.tokenizer)
    edit_config(
        folder,
        model_type="tanuki",
        architectures=["TanukiForCausalLM"],
        auto_map={
            "AutoConfig": "configuration_tanuki.TanukiConfig",
            "AutoModelForCausalLM": "modeling_tanuki.TanukiForCausalLM",
            "AutoTokenizer": ["tokenization_tanuki.TanukiTokenizer", None],
        },
    )
    for name, text in {**CODE, **BYSTANDERS}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What the model's code makes when it is run."""
    return tmp_path / "ran"


@pytest.fixture
def hub(checkpoint: Path, marker: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files["modeling_tanuki.py"] = MODELING.format(marker=str(marker)).encode()
    with running_hub() as hub:
        hub.add(REPOSITORY, files)
        yield hub


@pytest.fixture
def home(hub: Hub, tmp_path: Path) -> Path:
    """A user who has pulled the model."""
    pulled = run(tmp_path, "pull", MODEL, env={"HF_ENDPOINT": hub.url})
    assert pulled.returncode == 0, pulled.stderr
    return tmp_path


def snapshot(home: Path) -> Path:
    return home / "hf" / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT


def test_the_code_comes_with_the_model_and_nothing_else_does(home: Path, hub: Hub, marker: Path) -> None:
    names = {path.name for path in snapshot(home).glob("*.py")}
    assert names == {*CODE, "modeling_tanuki.py"}
    assert not hub.paths("setup|tokenization")
    (record,) = home.rglob("downloads.json")
    pinned = json.loads(record.read_text(encoding="utf-8"))["models"][MODEL]["files"]
    recorded = {file["path"]: (file["commit"], file["digest"]) for file in pinned}
    assert all(recorded[name] == (COMMIT, (snapshot(home) / name).resolve().name) for name in names)
    hub.requests.clear()
    assert run(home, "pull", MODEL, env={"HF_ENDPOINT": hub.url}).returncode == 0
    assert hub.requests == []
    assert not marker.exists()


@pytest.mark.parametrize(("language", "words"), [("en", "with all your rights"), ("ja", "あなたの権限")])
def test_nothing_runs_without_a_yes(home: Path, marker: Path, language: str, words: str) -> None:
    done = run(home, "ask", "-m", MODEL, *QUESTION, env={"TANUKI_LANG": language})
    assert (done.returncode, done.stdout) == (6, "")
    sentence, hint = done.stderr.strip().splitlines()
    for part in (
        MODEL,
        REPOSITORY,
        COMMIT[:12],
        "configuration_tanuki.py, modeling_tanuki.py, moe.py",
        words,
    ):
        assert part in sentence
    assert str(snapshot(home)) in hint
    assert "--trust-remote-code" in hint
    assert not marker.exists()


def test_a_yes_on_the_command_line(home: Path, marker: Path) -> None:
    done = run(home, "ask", "-m", MODEL, "--trust-remote-code", *QUESTION)
    assert done.returncode == 0, done.stderr
    assert "豆だぬき" in done.stdout
    assert done.stderr == ""
    assert marker.exists()


def test_a_terminal_asks_every_time_and_no_is_the_default(home: Path, marker: Path) -> None:
    for reply, code in (("\r", 6), ("y\r", 0)):
        with Terminal(home, ["ask", "-m", MODEL, *QUESTION], columns=120) as terminal:
            terminal.wait_for("[y/N]")
            for part in (REPOSITORY, COMMIT[:12], "modeling_tanuki.py", "all your rights"):
                assert part in terminal.text
            assert not marker.exists()
            terminal.type(reply)
            assert terminal.wait_for_exit() == code, terminal.text
            assert ("豆だぬき" in terminal.text) is (code == 0)


def test_code_that_was_changed_is_replaced(home: Path, hub: Hub) -> None:
    path = snapshot(home) / "modeling_tanuki.py"
    original = path.read_bytes()
    path.resolve().write_bytes(original.replace(b"touch", b"unlin"))
    done = run(home, "pull", MODEL, "--verify", env={"HF_ENDPOINT": hub.url})
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == original


def test_a_model_without_its_code_is_not_whole(home: Path, hub: Hub) -> None:
    """As it was pulled by an older version, or by another program that leaves code out."""
    (snapshot(home) / "moe.py").unlink()
    done = run(home, "ask", "-m", MODEL, *QUESTION)
    assert done.returncode == 4
    assert f"tanuki pull {MODEL}" in done.stderr
    done = run(home, "pull", MODEL, env={"HF_ENDPOINT": hub.url})
    assert done.returncode == 0, done.stderr
    assert (snapshot(home) / "moe.py").is_file()
    hub.repositories[REPOSITORY][COMMIT].pop("moe.py")
    (snapshot(home) / "moe.py").unlink()
    done = run(home, "pull", MODEL, "--revision", "main", env={"HF_ENDPOINT": hub.url})
    assert done.returncode == 5
    assert "lacks a file" in done.stderr


def test_packages_of_the_code_are_asked_for_before_the_yes(home: Path, marker: Path, hub: Hub) -> None:
    files = hub.repositories[REPOSITORY][COMMIT]
    changed = files | {"modeling_tanuki.py": b"import flash_attn\n" + files["modeling_tanuki.py"]}
    hub.add(REPOSITORY, changed, commit="2" * 40)
    pulled = run(home, "pull", MODEL, "--revision", "main", env={"HF_ENDPOINT": hub.url})
    assert pulled.returncode == 0, pulled.stderr
    with Terminal(home, ["ask", "-m", MODEL, *QUESTION], columns=200) as terminal:
        assert terminal.wait_for_exit() == 6
        assert "pip install flash-attn --no-build-isolation" in terminal.text
        assert "NVIDIA" in terminal.text
        assert "[y/N]" not in terminal.text
    doctor = run(home, "doctor", "--offline", "--json")
    check = next(check for check in json.loads(doctor.stdout)["checks"] if check["name"] == f"model:{MODEL}")
    assert check["status"] == "warn"
    assert "flash-attn" in check["detail"]
    assert not marker.exists()


def test_rm_takes_the_code_along(home: Path) -> None:
    assert run(home, "rm", "--yes", MODEL).returncode == 0
    assert not list((home / "hf").rglob("*.py"))


def test_a_folder_that_lacks_its_code(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "own")
    done = run(tmp_path, "ask", "-m", str(folder), "--trust-remote-code", *QUESTION)
    assert done.returncode == 6
    assert "modeling_tanuki.py" in done.stderr

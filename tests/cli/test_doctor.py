"""``tanuki doctor``: the real program against a hub on loopback, and each finding on its own."""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.catalog import TANUKI_8B, VARIANT_BY_NAME, VARIANTS
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.cli import checks
from tanuki_cli.cli.checks import can_encode, check_history
from tanuki_cli.cli.context import CommandContext, Environment
from tanuki_cli.engines.checking import Check
from tanuki_cli.engines.llama_cpp import summary as llama_cpp_summary
from tanuki_cli.engines.llama_cpp.summary import LlamaCppSummary
from tanuki_cli.engines.transformers import summary as transformers_summary
from tanuki_cli.engines.transformers.summary import TransformersSummary
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.machine.packages import install_extra
from tanuki_cli.settings.values import Directories, Settings
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams
from tests.support.chat_server import ChatServer
from tests.support.history_data import FORK
from tests.support.hub_server import Fault, Hub, running_hub
from tests.support.program import Terminal, run

GGUF = "tanuki-8b:q4_k_m"
NAMES = {
    "program", "packages", "machine", "disk", "gpu", "llama.cpp", "transformers", "hub", "model:mame",
    "settings", "history", "terminal", "language",
    *(["ik_llama.cpp"] if find_spec("ik_llama_cpp") else []),
}  # fmt: skip
MACHINE = Machine(ram_bytes=2**34, available_ram_bytes=2**33, physical_cores=2)
WITH_GPU = Machine(
    ram_bytes=2**34,
    available_ram_bytes=2**33,
    physical_cores=2,
    gpus=(Gpu(name="Card", total_bytes=8_000_000_000, free_bytes=7_000_000_000),),
)
LLAMA_CPP, TRANSFORMERS = (
    LlamaCppSummary(installed=True, can_use_gpu=False),
    TransformersSummary(installed=True, quantized=True),
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        for variant in VARIANTS:
            if variant.filename:
                files = hub.repositories.get(variant.repository, {}).get("1" * 40, {})
                hub.add(variant.repository, {**files, variant.filename: b"GGUF"})
        yield hub


def findings(home: Path, *arguments: str, **env: str) -> dict[str, dict[str, Any]]:
    """The checks of one ``doctor --json`` by name."""
    done = run(home, "doctor", "--json", *arguments, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert set(document) == {"version", "status", "checks"}
    checks = {check["name"]: check for check in document["checks"]}
    worst = {"ok": 0, "warn": 1, "fail": 2}
    assert document["status"] == max((check["status"] for check in checks.values()), key=worst.__getitem__)
    assert all(set(check) == {"name", "status", "detail", "fix"} for check in checks.values())
    assert all(check["fix"] for check in checks.values() if check["status"] != "ok")
    return checks


def test_names_and_statuses_do_not_change_with_the_language(tmp_path: Path) -> None:
    english = findings(tmp_path, "--offline")
    japanese = findings(tmp_path, "--offline", "--lang", "ja")
    assert set(english) == set(japanese) == NAMES
    assert {name: check["status"] for name, check in english.items()} == {
        name: check["status"] for name, check in japanese.items()
    }
    assert english["hub"]["detail"] == "Not asked: offline."
    assert japanese["hub"]["detail"] != english["hub"]["detail"]
    assert english["model:mame"]["status"] == "ok"
    assert list(tmp_path.rglob("*.sqlite3")) == []


def test_a_hub_that_answers_is_asked_for_one_model(hub: Hub, tmp_path: Path) -> None:
    checks = findings(tmp_path, HF_ENDPOINT=hub.url)
    assert checks["hub"]["status"] == "ok", checks["hub"]
    assert len({line.split("?")[0] for line in hub.paths("")}) == 1


def test_a_hub_that_does_not_answer_is_a_warning_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault(pattern="GET /api", status=503))
    checks = findings(tmp_path, HF_ENDPOINT=hub.url)
    assert checks["hub"]["status"] == "warn"
    assert len(hub.paths("")) <= 2


def test_variables_that_forbid_the_network_are_obeyed(hub: Hub, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TANUKI_OFFLINE"):
        assert (
            findings(tmp_path, HF_ENDPOINT=hub.url, **{name: "1"})["hub"]["detail"] == "Not asked: offline."
        )
    assert hub.requests == []


def test_installed_models_are_checked(hub: Hub, tmp_path: Path) -> None:
    practice = practice_model()
    assert practice.tokenizer is not None
    variant = VARIANT_BY_NAME[GGUF]
    assert variant.filename is not None
    hub.add(variant.repository, {variant.filename: practice.path.read_bytes()})
    hub.add(TANUKI_8B.reference_repository, {"tokenizer.json": practice.tokenizer.read_bytes()})
    pulled = run(tmp_path, "pull", GGUF, env={"HF_ENDPOINT": hub.url})
    assert pulled.returncode == 0, pulled.stderr
    check = findings(tmp_path, "--offline")[f"model:{GGUF}"]
    assert check["status"] == "ok"
    assert "their digests were checked" in check["detail"]

    [tokenizer] = (tmp_path / "hf").rglob("snapshots/*/tokenizer.json")
    spoilt = json.loads(tokenizer.read_text(encoding="utf-8"))
    spoilt["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    tokenizer.resolve().write_text(json.dumps(spoilt), encoding="utf-8")
    check = findings(tmp_path, "--offline")[f"model:{GGUF}"]
    assert (check["status"], "prompts: truncation." in check["detail"]) == ("ok", True)
    spoilt["model"] = {"type": "BPE", "vocab": {"<s>": 1, "</s>": 2}, "merges": []}
    tokenizer.resolve().write_text(json.dumps(spoilt).ljust(tokenizer.stat().st_size), encoding="utf-8")
    check = findings(tmp_path, "--offline")[f"model:{GGUF}"]
    assert (check["status"], check["fix"]) == ("fail", f"tanuki pull {GGUF} --verify")


def test_a_broken_config_file_is_a_finding_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text("top_k == 3\n")
    checks = findings(tmp_path, "--offline")
    assert set(checks) == NAMES
    assert checks["settings"] == {
        "name": "settings",
        "status": "fail",
        "detail": f"{path} is not valid TOML at line 1, column 8.",
        "fix": "tanuki config edit",
    }


def test_a_history_of_a_newer_version_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "data" / "history.sqlite3"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = path.read_bytes()
    assert findings(tmp_path, "--offline")["history"]["status"] == "fail"
    assert path.read_bytes() == before


def test_an_encoding_without_japanese_is_a_warning(tmp_path: Path) -> None:
    checks = findings(tmp_path, "--offline", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert checks["terminal"]["status"] == "warn"
    assert checks["terminal"]["fix"] == "export LC_ALL=C.UTF-8"
    done = run(tmp_path, "doctor", "--offline", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert done.stdout.startswith("+ program: ")


@pytest.mark.fast
def test_text_is_one_line_per_finding_with_its_fix_below(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text("temperature = 9\n")
    done = run(tmp_path, "doctor", "--offline")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✓ program: tanuki ")
    place = next(number for number, line in enumerate(lines) if line.startswith("✗ settings: "))
    assert lines[place + 1] == "    → tanuki config edit"
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.startswith("Findings that need attention: ")


def test_on_a_terminal_the_width_is_asked_for(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["doctor", "--offline"], columns=100) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "100 columns, characters of ambiguous width take 1" in terminal.text
        assert terminal.raw.count(b"\x1b[6n") == 1
        assert "※" not in terminal.text


# --- findings on their own ------------------------------------------------------------------------------


def llama_cpp(monkeypatch: pytest.MonkeyPatch, probe: str, machine: Machine = MACHINE) -> Check:
    monkeypatch.setattr(llama_cpp_summary, "_PROBE", probe)
    return LLAMA_CPP.check(machine)


def test_a_gpu_that_this_build_cannot_use_gets_the_command_that_builds_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: {"nvcc": "/usr/bin/nvcc"}.get(name))
    check = llama_cpp(monkeypatch, "print('false')", WITH_GPU)
    assert check.status == "warn"
    assert "nvcc" not in check.detail
    assert check.fix == (
        f'CMAKE_ARGS="-DGGML_CUDA=on" {sys.executable} -m pip install --force-reinstall --no-deps '
        "--no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
    )
    usual = "/usr/local/cuda/bin/nvcc"
    monkeypatch.setattr(shutil, "which", lambda name: name if name == usual else None)
    off_the_path = llama_cpp(monkeypatch, "print('false')", WITH_GPU)
    assert off_the_path.fix == f"CUDACXX={usual} {check.fix}"
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    without = llama_cpp(monkeypatch, "print('false')", WITH_GPU)
    assert "CUDA Toolkit" in without.detail
    assert without.fix == check.fix
    assert llama_cpp(monkeypatch, "print('true')", WITH_GPU).status == "ok"
    assert llama_cpp(monkeypatch, "print('false')").status == "ok"


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ("import os; os.kill(os.getpid(), 4)", "it was ended by signal 4"),
        ("raise ImportError('libggml.so: cannot open')", "ImportError: libggml.so: cannot open"),
    ],
)
def test_a_llama_cpp_that_cannot_be_loaded_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, probe: str, reason: str
) -> None:
    check = llama_cpp(monkeypatch, probe)
    assert check.status == "fail"
    assert reason in check.detail
    assert check.fix is not None
    assert "--force-reinstall" in check.fix


def test_a_torch_without_the_gpu_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_summary, "_PROBE", "print('false')")
    assert TRANSFORMERS.check(WITH_GPU).status == "warn"
    assert TRANSFORMERS.check(MACHINE).status == "ok"
    check = TransformersSummary(installed=False, quantized=False).check(MACHINE)
    assert check.status == "ok"
    assert install_extra("transformers") in check.detail


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_packages().status == "ok"
    monkeypatch.setattr(checks, "_PACKAGES", ("rich", "no-such-package"))
    check = checks.check_packages()
    assert (check.status, check.detail) == ("fail", "Missing: no-such-package.")
    assert check.fix == f"{sys.executable} -m pip install no-such-package"


def test_gpus_are_named() -> None:
    assert checks.check_gpu(WITH_GPU).detail == "Card (7.0 GB of 8.0 GB free)"


def test_encodings() -> None:
    assert can_encode("日本語", "cp932")
    assert not can_encode("日本語", "latin-1")
    assert not can_encode("日本語", "no-such-encoding")


def test_a_history_that_cannot_be_written_is_a_finding() -> None:
    """Root may write everywhere, so the child becomes nobody."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=_check_as_nobody, args=(name, sender))
        child.start()
        child.join()
        Path(name).chmod(0o755)
        assert receiver.recv() == ("warn", f"ls -ld {name}")


def _check_as_nobody(home: str, sender: Connection) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    environ = {"TANUKI_HOME": home}
    streams = Streams.of_process()
    check = check_history(
        CommandContext(
            environment=Environment(
                streams=streams, environ=environ, directories=Directories.from_environment(environ)
            ),
            console=Console(streams, environ),
            settings=Settings(),
            configured=Settings(),
            debug=False,
            command="tanuki doctor",
        )
    )
    sender.send((check.status, check.fix))


def test_the_servers_of_the_settings_are_asked(tmp_path: Path) -> None:
    with ChatServer(kind="vllm", context_length=2048) as server:
        run(tmp_path, "config", "set", "remotes.lab", server.url)
        run(tmp_path, "config", "set", "remotes.gone", "http://127.0.0.1:9/v1")
        checks = findings(tmp_path)
        offline = findings(tmp_path, "--offline")
    lab, gone = checks["remote:lab"], checks["remote:gone"]
    assert lab["status"] == "ok"
    for part in ("vLLM", "tanuki-8b", "2048"):
        assert part in lab["detail"]
    assert gone["status"] == "warn"
    assert "cannot be reached" in gone["detail"]
    assert "curl" in gone["fix"]
    assert {offline[name]["detail"] for name in ("remote:lab", "remote:gone")} == {"Not asked: offline."}


def test_what_chose_the_language(tmp_path: Path) -> None:
    def said(*arguments: str, **env: str) -> str:
        return str(findings(tmp_path, "--offline", *arguments, **env)["language"]["detail"])

    assert said().endswith("(LANG=en_US.UTF-8)")
    assert said(TANUKI_LANG="ja").endswith("(TANUKI_LANG=ja)")
    assert said("--lang", "en", TANUKI_LANG="ja").endswith("(lang = en)")
    run(tmp_path, "config", "set", "lang", "ja")
    assert said().endswith("(lang = ja)")

"""The settings that ``tanuki help serve`` shows: read out of the page, and held against who reads them."""

import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.server.running import GRACE_S
from tests.support.serving import serving

PAGES = Path(__file__).parents[2] / "tanuki_cli" / "docs"
LANGUAGES = ("en", "ja")
BASE = "http://127.0.0.1:8264/v1"


def blocks(language: str, kind: str) -> list[str]:
    """The blocks of a page that are of one kind."""
    text = (PAGES / language / "serve.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("kind", ["python", "js", "yaml", "json", "ini", "xml"])
def test_both_languages_show_the_same(kind: str) -> None:
    assert blocks("en", kind) == blocks("ja", kind) != []


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    [unit] = blocks("en", "ini")
    program = tmp_path / ".local" / "bin" / "tanuki"
    program.parent.mkdir(parents=True)
    program.touch(0o700)
    (tmp_path / "run").mkdir(0o700)
    path = tmp_path / "tanuki.service"
    env = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}

    def complaints(text: str) -> str:
        path.write_text(text, encoding="utf-8")
        command = [analyze, "--user", "verify", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
        return done.stdout + done.stderr

    if "Unknown key" not in complaints(unit.replace("TimeoutStopSec", "TimeoutStopSek")):
        pytest.skip("systemd-analyze does not read units here")
    assert complaints(unit) == ""
    stop = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert stop is not None
    assert int(stop[1]) > GRACE_S


def test_launchd_can_read_the_property_list(tmp_path: Path) -> None:
    """Its keys are those of launchd.plist(5), and its command starts what stands in the user's folder."""
    [text] = blocks("en", "xml")
    found = plistlib.loads(text.encode())
    assert found["Label"] == "tanuki.serve"
    assert found.keys() == {"Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ExitTimeOut"}
    assert (found["RunAtLoad"], found["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert found["ExitTimeOut"] > GRACE_S
    program = tmp_path / ".local" / "bin" / "tanuki"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o700)
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(found["ProgramArguments"], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "serve --keep-alive 30m\n"


def test_the_settings_of_clients_have_what_those_need() -> None:
    yaml = pytest.importorskip("yaml")
    llm, aichat, continue_ = map(yaml.safe_load, blocks("en", "yaml"))
    assert llm == [{"model_id": "tanuki", "model_name": "tanuki", "api_base": BASE}]
    [client] = aichat["clients"]
    assert aichat["model"] == f"{client['name']}:{client['models'][0]['name']}"
    assert client["api_base"] == BASE
    assert {"name", "version", "schema", "models"} <= continue_.keys()  # without them it refuses the file
    [model] = continue_["models"]
    assert (model["provider"], model["apiBase"]) == ("openai", BASE)
    [oterm] = map(json.loads, blocks("en", "json"))
    assert oterm["openaiCompatible"]["tanuki"]["base_url"] == BASE


def test_the_example_in_python_runs(tmp_path: Path) -> None:
    [example] = blocks("en", "python")
    with serving(tmp_path) as server:
        command = [sys.executable, "-c", example.replace(BASE, f"{server.address}/v1")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr

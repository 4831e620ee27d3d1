"""A chat whose model goes away under it stays, and takes another one."""

import shutil
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tests.support.program import Terminal

NEXT = "No model is loaded now; /model NAME loads one."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shutil.copytree(practice_model().path.parent, tmp_path / "model") / practice_model().path.name


def open_chat(home: Path, *arguments: str) -> Terminal:
    terminal = Terminal(
        home, ["chat", "--max-new-tokens", "4", *arguments], env={"TANUKI_LANG": "en"}, columns=150
    )
    terminal.wait_for_prompt(0)
    return terminal


@pytest.mark.parametrize("wanted", ["no-such-model", "http://127.0.0.1:9/v1", "./broken.gguf"])
def test_neither_the_new_model_nor_the_old_one_can_be_loaded(
    wanted: str, model: Path, tmp_path: Path
) -> None:
    with open_chat(tmp_path, "-m", str(model)) as terminal:
        terminal.send("はじめの質問")
        model.rename(model.with_name("moved.gguf"))
        terminal.send(f"/model {wanted}")
        assert f"{model} cannot be loaded again" in terminal.text
        assert NEXT in terminal.text
        terminal.wait_for("no model · ")
        # Whatever is asked of it now: one sentence each, and the command that helps.
        for line in ("つぎの質問", "/retry", "/context", "/params", "/model", "/model also-unknown"):
            terminal.send(line)
        assert "Error: No model is loaded." in terminal.text
        assert f"Hint: /model {model}" in terminal.text
        assert "Traceback" not in terminal.text
        model.with_name("moved.gguf").rename(model)
        terminal.send(f"/model {model}")
        terminal.send("/retry")
        terminal.wait_for("tokens/s")
        assert "no model" not in terminal.screen.window[-1]
        terminal.type("/exit\r")
        assert terminal.wait_for_exit() == 0


def test_a_chat_can_be_left_without_a_model(model: Path, tmp_path: Path) -> None:
    with open_chat(tmp_path, "-m", str(model)) as terminal:
        model.unlink()
        terminal.send("/model no-such-model")
        terminal.type("\x04")
        assert terminal.wait_for_exit() == 0
        assert "Traceback" not in terminal.text

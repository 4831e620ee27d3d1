"""What each command says it loads a model for: that decides which library computes, and how."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import tanuki_cli.cli
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.cli.commands import COMMAND_BY_NAME
from tanuki_cli.engines.base import Use
from tests.conftest import until
from tests.support.program import run
from tests.support.serving import serving

WITHOUT: Final = {
    "persona", "history", "ps", "stop", "models", "pull", "rm", "config", "doctor", "help",
}  # fmt: skip
"""The commands that load no model to ask it."""
LOADERS: Final = {"model", "first_model"}
"""The files that load models for commands."""
LOADED: Final = re.compile(r"^llama\.cpp, loaded for: (\w+)$", re.MULTILINE)
SHORT: Final = ("--max-new-tokens", "4", "--temperature", "0")


@dataclass(frozen=True)
class Case:
    """A command line, after ``tanuki``, in which FOLDER stands for where the files are."""

    arguments: tuple[str, ...]
    use: Use
    stdin: str = ""


CASES: Final = {
    "chat": Case(("chat", "-m", "mame", *SHORT), "chat", "こんにちは\n"),
    "ask": Case(("ask", "-m", "mame", *SHORT, "あなたは誰?"), "once"),
    "ask a long text": Case(
        ("ask", "-m", "mame", *SHORT, "--chunked", "-f", "FOLDER/long.txt", "要点は?"), "many"
    ),
    "batch": Case(("batch", "FOLDER/questions.txt", "-o", "FOLDER/a.jsonl", "-m", "mame", *SHORT), "many"),
    "arena": Case(("arena", "mame", "FOLDER/other.gguf", *SHORT), "chat", "あなたは誰?\n1\n"),
    "arena with questions": Case(
        ("arena", "mame", "FOLDER/other.gguf", *SHORT, "--prompts", "FOLDER/questions.txt"), "many", "1\n1\n"
    ),
    "compare": Case(
        ("compare", "mame", "FOLDER/other.gguf", "--text", "FOLDER/long.txt", "--context-length", "256"),
        "many",
    ),
    "bench": Case(("bench", "-m", "mame"), "chat"),
    "mtbench answer": Case(
        ("mtbench", "answer", "-m", "mame", "--mini", "--limit", "1", "-o", "FOLDER/bench"), "many"
    ),
    "mtbench judge": Case(
        ("mtbench", "judge", "--judge", "mame", "--limit", "1", "-o", "FOLDER/bench"), "many"
    ),
}
"""All but ``serve``, which does not end by itself."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "questions.txt").write_text("あなたは誰?\nたぬきとは?\n", encoding="utf-8")
    (folder / "long.txt").write_text("変わりはありません。\n" * 200, encoding="utf-8")
    (folder / "other.gguf").symlink_to(practice_model().path)
    done = run(folder, "mtbench", "answer", "-m", "mame", "--mini", "--limit", "1", "-o", f"{folder}/bench")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_command_loads_its_model_for_what_it_does(tmp_path: Path, folder: Path, case: Case) -> None:
    arguments = [part.replace("FOLDER", str(folder)) for part in case.arguments]
    done = run(tmp_path, *arguments, "--debug", stdin=case.stdin.encode())
    assert done.returncode == 0, done.stderr
    assert set(LOADED.findall(done.stderr)) == {case.use}


def test_a_server_loads_its_model_for_many_and_again_after_a_rest(tmp_path: Path) -> None:
    with serving(tmp_path, "--debug", "--keep-alive", "1s") as server:
        until(lambda: server.metric("model_loaded") == 0)
        server.chat(max_tokens=2)
        assert LOADED.findall(server.said) == ["many", "many"]


def test_every_command_that_loads_a_model_is_tried_here() -> None:
    tried = {case.arguments[0] for case in CASES.values()} | {"serve"}
    assert tried | WITHOUT == COMMAND_BY_NAME.keys()
    assert not tried & WITHOUT
    files = {
        path.stem: path.read_text(encoding="utf-8") for path in Path(tanuki_cli.cli.__path__[0]).glob("*.py")
    }
    loading = {name for name, text in files.items() if re.search(r"\b(open|load)_model\(", text)}
    assert loading - LOADERS == {COMMAND_BY_NAME[name].module or name for name in tried}

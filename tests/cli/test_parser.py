"""The parser: what an input method types, and the parts of typer that are not documented."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tanuki_cli.cli import parser
from tanuki_cli.cli.ask import ask_app
from tanuki_cli.cli.history import history_app
from tanuki_cli.cli.parser import Ours, adopt, half_width
from tests.support.program import ROOT, run


def read(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The prompt and the options that ``tanuki ask`` understands in ``words``."""
    context = adopt(ask_app).make_context("ask", words)
    given = {name: value for name, value in context.params.items() if value not in (None, False, ())}
    return list(given.pop("words", ())), given


@pytest.mark.parametrize(
    ("words", "prompt", "options"),
    [
        (["－m", "ｍａｍｅ", "猫"], ["猫"], {"model": "ｍａｍｅ"}),
        (["ーーｍｏｄｅｌ", "mame", "－ｑ", "猫"], ["猫"], {"model": "mame", "quiet": True}),
        (["－－ｔｏｐ－ｋ＝４０", "猫"], ["猫"], {"top_k": "４０"}),
        (["-ｍ　ｍａｍｅ　猫は？　元気？"], ["猫は？　元気？"], {"model": "ｍａｍｅ"}),
        (["－－top-k　４０　－ｃ　続けて"], ["続けて"], {"top_k": "４０", "continue_last": True}),
        (["－－no-save　猫", "-m", "mame"], ["猫"], {"save": True, "model": "mame"}),
        # A free text may hold full-width spaces, and look like an option.
        (["－s　短く　話す", "猫"], ["猫"], {"system": "短く　話す"}),
        (["-s", "－m", "－－stop＝－q", "猫"], ["猫"], {"system": "－m", "stop": ("－q",)}),
        # Text for the model stays as it was typed.
        (["ＡＢＣ１２３　－m"], ["ＡＢＣ１２３　－m"], {}),
        (["－１の平方根は？"], ["－１の平方根は？"], {}),
        (["－－これは何？"], ["－－これは何？"], {}),
        (["ー", "－"], ["ー", "－"], {}),
        (["--", "－m", "mame"], ["－m", "mame"], {}),
        (["－－", "－m", "mame"], ["－m", "mame"], {}),
        (
            ["－ｑｃ", "－ｍ", "mame", "続き"],
            ["続き"],
            {"quiet": True, "continue_last": True, "model": "mame"},
        ),
        (["－ｑ番", "——and then?"], ["－ｑ番", "——and then?"], {}),
        (["猫", "--", "－－ｓｅｅｄ"], ["猫", "－－ｓｅｅｄ"], {}),
        ([""], [""], {}),
    ],
)
def test_names_may_be_typed_full_width_and_texts_stay(
    words: list[str], prompt: list[str], options: dict[str, Any]
) -> None:
    assert read(words) == (prompt, options)


def test_half_width_words_pass_unchanged() -> None:
    parameters = adopt(ask_app).get_params(typer.Context(adopt(ask_app)))
    for line in ("-m mame -q x", "--seed=3 --stop -- x", "-qm mame - --x", "-"):
        words = line.split()
        assert half_width(words, parameters) == words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ａｓｋ　－m", "mame"], ["ask", "－m", "mame"]),
        (["Ａｓｋ", "Ａｓｋ"], ["ask", "Ａｓｋ"]),
        (["ask　こんにちは　世界"], ["ask", "こんにちは　世界"]),
        (["こんにちは　世界"], ["こんにちは　世界"]),
    ],
)
def test_command_names_may_be_typed_full_width(words: list[str], expected: list[str]) -> None:
    assert half_width(words, [], commands=["ask", "chat"]) == expected


@pytest.mark.parametrize("word", ["－－ｔｅｍｐ", "－－ｔｅｍｐ＝０．５", "－－ｔｅｍｐ　０．５", "−−temp"])
def test_a_full_width_name_that_is_no_option_is_refused_and_not_sent(tmp_path: Path, word: str) -> None:
    done = run(tmp_path, "ask", "-m", "mame", word, "猫")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no option --temp." in done.stderr
    assert "--temperature" in done.stderr


def test_a_whole_command_line_of_an_input_method_runs(tmp_path: Path) -> None:
    words = ["ｃｏｎｆｉｇ", "ｓｅｔ", "ｔｅｍｐｅｒａｔｕｒｅ", "０．２", "－ｑ"]
    assert run(tmp_path, *words).returncode == 0
    assert run(tmp_path, "ｃｏｎｆｉｇ　ｇｅｔ　ｔｅｍｐｅｒａｔｕｒｅ").stdout == "0.2\n"
    line = "ａｓｋ　－ｍ　ｍａｍｅ　ＡＢＣを　そのまま －－no-save --json －－ｌａｎｇ ｊａ"
    asked = run(tmp_path, *line.split(" "))
    assert asked.returncode == 0, asked.stderr
    assert '"temperature": 0.2' in asked.stdout
    unknown = run(tmp_path, "ａｓｋ", "－－ｌａｎｇ＝ｊａ", "--modle", "x")
    assert unknown.stderr.startswith("エラー")


def test_files_are_found_whose_names_an_input_method_made_full_width(tmp_path: Path) -> None:
    file = tmp_path / "memo1.txt"
    file.write_text("こんにちは\n", encoding="utf-8")
    typed = str(tmp_path / "ｍｅｍｏ１．ｔｘｔ")
    ask = run(tmp_path, "ask", "-m", "mame", "－ｆ", typed, "--max-new-tokens", "1", "読んで")
    chat = run(tmp_path, "chat", "-m", "mame", stdin=f"/file {typed}\n".encode())
    rows = run(tmp_path, "batch", typed, "-m", "mame", "--max-new-tokens", "1")
    imported = run(tmp_path, "history", "import", typed)
    for done in (ask, chat, rows):
        assert done.returncode == 0, done.stderr
    assert "memo1.txt" in chat.stderr
    assert "cannot be imported" in imported.stderr  # read, and found to be something else
    assert run(tmp_path, "ask", "-m", str(tmp_path / "ｎｏｎｅ．ｇｇｕｆ"), "x").returncode == 4


def test_everything_below_an_app_is_ours() -> None:
    class OwnGroup(typer.core.TyperGroup):
        """A group with a class of its own."""

    class OwnCommand(typer.core.TyperCommand):
        """A command with a class of its own."""

    app, inner = typer.Typer(cls=OwnGroup), typer.Typer()
    app.command("own", cls=OwnCommand)(lambda: None)
    app.command("plain")(lambda: None)
    inner.command("one")(lambda: None)
    inner.command("two")(lambda: None)
    app.add_typer(inner, name="inner")
    for command in (adopt(app), adopt(history_app), adopt(ask_app)):
        stack = [command]
        while stack:
            one = stack.pop()
            assert isinstance(one, Ours), one
            stack += getattr(one, "commands", {}).values()
    assert isinstance(adopt(app), OwnGroup)
    assert isinstance(adopt(app).commands["own"], OwnCommand)


def test_the_conversion_of_typer_is_not_used() -> None:
    """The hook works in this version: pydantic, which typer would convert with, is not imported."""
    code = (
        "import sys\nfrom tanuki_cli.cli.ask import ask_app\nfrom tanuki_cli.cli.parser import adopt\n"
        "words = ['-f', 'a', '--stop', 'b', '-q', '--top-k', '3', 'x']\n"
        "context = adopt(ask_app).make_context('ask', words)\n"
        "assert context.params['words'] == ('x',), context.params\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_of_the_completion_are_there(shell: str) -> None:
    assert shell in parser.completion_shells()
    script = parser.completion_script(shell, program="tanuki", variable="_TANUKI_COMPLETE")
    assert "tanuki" in script
    assert "_TANUKI_COMPLETE" in script


def test_the_undocumented_parts_of_typer_are_used_in_one_module_only() -> None:
    private = re.compile(r"typer\._|_runtime_param|_completion_shared|registered_commands|_get_shell_name")
    users = {
        path.name
        for path in (ROOT / "tanuki_cli").rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert users == {"parser.py"}

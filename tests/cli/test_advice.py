"""Advice that is true: every hint in the source names commands that exist, and what is suggested is right."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.cli.commands import COMMAND_BY_NAME
from tanuki_cli.cli.parser_errors import COMMAND_HABITS, INNER_HABITS, OPTION_HABITS
from tanuki_cli.settings.specs import SPECS
from tanuki_cli.terminal.chat.commands import COMMANDS, HABITS, find_command
from tanuki_cli.terminal.chat.program_commands import OWN_COMMANDS
from tanuki_cli.text.suggestions import suggest
from tests.support.command_lines import parse
from tests.support.program import run

PACKAGE = Path(__file__).parent.parent.parent / "tanuki_cli"


def hints() -> Iterator[tuple[str, str]]:
    """Every hint that is written out, with a word in place of what is filled in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.keyword) or node.arg != "hint":
                continue
            for text in texts(node.value):
                yield f"{path.relative_to(PACKAGE)}:{node.value.lineno}", text


def texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in value.values)
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)


LINES = sorted({text for _place, text in hints() if text.startswith("tanuki ")})
SLASHES = sorted({text for _place, text in hints() if re.match(r"/[a-z]", text)})


@pytest.mark.parametrize("line", LINES)
def test_a_hint_that_is_a_command_line_parses(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0].partition(" < ")[0].replace("…", "x"))
    if words[1] == "x" or "--help" in words or words[1] == "--show-completion":
        return
    parse(words[1:])


@pytest.mark.parametrize("line", SLASHES)
def test_a_hint_that_is_a_slash_command_exists(line: str) -> None:
    name = line.split()[0].lstrip("/")
    assert name == "x" or find_command(name)


def test_there_are_hints_of_both_kinds() -> None:
    assert len(LINES) > 30
    assert len(SLASHES) > 8


def test_habits_lead_to_what_exists() -> None:
    # What a version lacks is not said: `suggest` looks.
    assert {name for name in COMMAND_HABITS.values() if " " not in name} - {"stop"} <= set(COMMAND_BY_NAME)
    slashes = {command.name for command in COMMANDS}
    assert {name for name in HABITS.values() if " " not in name} <= slashes
    assert set(OWN_COMMANDS) <= slashes
    assert not set(HABITS) & slashes
    assert not set(COMMAND_HABITS) & set(COMMAND_BY_NAME)
    flags = {spec.flag for spec in SPECS}
    assert set(OPTION_HABITS.values()) - flags <= {
        "--json",
        "--quiet",
        "--stats",
        "--file",
        "--resume",
    }
    for line in (*COMMAND_HABITS.values(), *HABITS.values()):
        if line.startswith("tanuki "):
            parse(line.split()[1:])
    assert set(INNER_HABITS.values()) <= {
        *("rm", "list", "show", "search", "save", "title", "export", "import", "unset", "path")
    }


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("ask --temp 0.5 x", "Did you mean --temperature?"),
        ("ask --max-tokens 5 x", "Did you mean --max-new-tokens?"),
        ("ask --num-ctx 5 x", "Did you mean --context-length?"),
        ("ask --system-prompt x y", "Did you mean --system?"),
        ("ask --sytem x y", "Did you mean --system?"),
        ("ask --zzz x", "tanuki ask --help"),
        ("ask --threads 4 x", "tanuki config set threads 4"),
        ("-m mame ask こんにちは", "tanuki ask -m mame 'こんにちは'"),
        ("--temperature 0 chat", "tanuki chat --temperature 0"),
        ("--temp 0 chat", "tanuki chat --temperature 0"),
        ("－－ｔｅｍｐ＝0 ｃｈａｔ", "tanuki chat --temperature=0"),
        ("--zzz ask x", "tanuki ask --help"),
        ("-x", "tanuki --help"),
        ("あなたは誰?", "tanuki ask 'あなたは誰?'"),
        ("-m mame 今日は", "tanuki ask -m mame '今日は'"),
        ("-m mame --temperature 0", "tanuki chat -m mame --temperature 0"),
        ("run llama", "tanuki chat"),
        ("list", "tanuki models"),
        ("ls", "tanuki models"),
        ("delete x", "tanuki rm"),
        ("download", "tanuki pull"),
        ("version", "tanuki --version"),
        ("mod", "tanuki models"),
        ("chta", "tanuki chat"),
        ("exit", "tanuki --help"),
        ("history delete 1", "tanuki history rm"),
        ("persona add x", "tanuki persona save"),
        ("ask -m qwen3 x", "There are tanuki-8b, tanuki-8x8b, mame (all: tanuki models), and any server: "
         "http://host:8000/v1"),
        ("config set temprature 1", "Did you mean temperature?"),
    ],
)  # fmt: skip
def test_what_was_meant(tmp_path: Path, arguments: str, hint: str) -> None:
    done = run(tmp_path, *arguments.split())
    assert done.returncode in {2, 4}
    assert done.stderr.splitlines()[1] == f"  Hint: {hint}"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("/set system 先生", "/system 先生"),
        ("/set stats on", "/stats on"),
        ("/regenerate", "Did you mean /retry?"),
        ("/delete", "Did you mean tanuki history rm?"),
        ("/load x", "Did you mean /resume?"),
        ("/temp 0.3", "Did you mean /set?"),
        ("/conti", "Did you mean /continue?"),
        ("/serve", "Did you mean tanuki serve?"),
        ("/xyzzy", "/help (a message that begins with / is sent with //)"),
    ],
)
def test_what_was_meant_in_a_chat(tmp_path: Path, line: str, hint: str) -> None:
    done = run(tmp_path, "chat", "-m", "mame", stdin=f"{line}\n".encode())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"  Hint: {hint}"


def test_suggestions_are_prefixes_then_habits_then_near_spellings_or_none() -> None:
    known = ("system", "temperature", "temp-limit", "list")
    assert suggest("temp", known) == "temp-limit"
    assert suggest("sys", known, habits={"sys": "list"}) == "system"
    assert suggest("ls", known, habits={"ls": "list"}) == "list"
    assert suggest("gone", known, habits={"gone": "not here"}) == "not here"
    assert suggest("gone", known, habits={"gone": "nothere"}) is None
    assert suggest("sistem", known) == "system"
    assert suggest("aks", ["ask", "arena"]) == "ask"
    assert suggest("zzz", known) is None

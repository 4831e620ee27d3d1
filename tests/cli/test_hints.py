"""Every command line that a hint or a message names: it exists, with these options, in both languages."""

import ast
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer.main

from tanuki_cli.cli import app
from tanuki_cli.cli.commands import COMMAND_BY_NAME
from tanuki_cli.i18n import activate
from tests.support.program import ROOT

SOURCES: Final = sorted((ROOT / "tanuki_cli").rglob("*.py"))
_PLACE: Final = "PLACE"
_LINE: Final = re.compile(r"(?<![\w./-])tanuki ([^\n`(（。、「」…]*)")
_OPTION: Final = re.compile(r"--?[a-zA-Z][\w-]*")
_GROUPS_OF_NAMED: Final = {"tanuki history", "tanuki config", "tanuki mtbench", "tanuki persona"}
"""Commands that do nothing unless one of theirs is named."""
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9-]*\Z")


def _text(node: ast.expr) -> Iterator[str]:
    """The texts that ``node`` may be, with a word for each value put into them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"\{[^{}]*\}", _PLACE, node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else _PLACE for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (text for part in (node.body, node.orelse) for text in _text(part))
    elif isinstance(node, ast.BoolOp):
        yield from (text for part in node.values for text in _text(part))
    elif isinstance(node, ast.Call):
        inner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        yield from (text for part in [*inner, *node.args] for text in _text(part))


def hints() -> Iterator[tuple[str, str]]:
    """Each text after ``hint=``, ``fix=`` or ``command=``, and where it stands."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in {"hint", "fix", "command"}:
                place = f"{path.relative_to(ROOT)}:{node.value.lineno}"
                yield from ((place, text) for text in _text(node.value))


def messages() -> Iterator[tuple[str, str]]:
    """Each message in either language, and which."""
    for path in sorted((ROOT / "tanuki_cli" / "locale").rglob("*.po")):
        for entry in re.split(r"\n\n+", path.read_text("utf-8")):
            for kind in ("msgid", "msgstr"):
                found = re.search(rf'^{kind} ((?:"(?:[^"\\]|\\.)*"\n?)+)', entry, re.MULTILINE)
                if found:
                    text = "".join(map(ast.literal_eval, re.findall(r'"(?:[^"\\]|\\.)*"', found[1])))
                    yield f"{path.name} {kind}", re.sub(r"\{[^{}]*\}", _PLACE, text)


def _command(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command that ``words`` begin with, its name, and the words after that."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="tanuki")
    name = "tanuki"
    while words and hasattr(command, "get_command") and _WORD.match(words[0]):
        found = command.get_command(context, words[0])
        if found is None:
            break
        command, name, words = found, f"{name} {words[0]}", words[1:]
    return command, name, words


def _options(command: Any) -> set[str]:
    """The names of its options, and of its subcommands': some of these are run without being named."""
    inner = getattr(command, "commands", {}).values()
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help", "-h", "--version"}, *map(_options, inner))


def faults(text: str, *, of_hint: bool) -> Iterator[str]:
    """What is wrong with the command lines in ``text``; in a hint what follows ``tanuki`` is a command."""
    for line in _LINE.findall(text):
        words = re.split("  | [|] ", line)[0].replace("[", " ").split()
        if not words or (words[0] not in COMMAND_BY_NAME and words[0][0] != "-"):
            if of_hint and words and _WORD.match(words[0]):
                yield f"no command {words[0]}: tanuki {line}"
            continue
        command, name, rest = _command(words)
        names = [word for word in rest if word[0] != "-"]
        if of_hint and names and name in _GROUPS_OF_NAMED and _WORD.match(rest[0]):
            yield f"no command {rest[0]} of {name}: tanuki {line}"
        if of_hint and not names and name in {"tanuki pull", "tanuki rm"}:
            yield f"no model is named: tanuki {line}"
        options = _options(command)
        for word in rest:
            option = _OPTION.match(word)
            if option and option[0] not in options:
                yield f"{name} has no {option[0]}: tanuki {line}"


def test_every_command_that_a_hint_names_exists_and_names_its_model() -> None:
    found = list(hints())
    assert sum("tanuki " in text for _place, text in found) > 100
    wrong = [f"{place}: {fault}" for place, text in found for fault in faults(text, of_hint=True)]
    assert wrong == []


def test_every_command_that_a_message_names_exists_in_both_languages() -> None:
    activate("en")
    found = list(messages())
    assert sum("tanuki " in text for _place, text in found) > 150
    assert [f"{place}: {fault}" for place, text in found for fault in faults(text, of_hint=False)] == []


@pytest.mark.parametrize(
    "line",
    ["tanuki pul x", "tanuki pull --verify", "tanuki history shw x", "tanuki ask --retry", "tanuki rm"],
)
def test_a_wrong_line_is_found(line: str) -> None:
    assert list(faults(line, of_hint=True))

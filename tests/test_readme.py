"""README.md says what the program does: its tables, and every command line in it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from scripts import make_readme_tables
from tanuki_cli.cli import app

TEXT = make_readme_tables.README.read_text(encoding="utf-8")
_OPERATORS = {"|", "&&", ";", "||"}


def command_lines(text: str) -> Iterator[str]:
    """Every line of a code block and every inline code that runs tanuki."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", outside)


def tanuki_arguments(line: str) -> Iterator[list[str]]:
    """What follows ``tanuki`` in each part of a pipe."""
    if not re.search(r"\btanuki\s", line):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, "|"]:
        if word not in _OPERATORS:
            part.append(word)
            continue
        while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
            del part[0]
        if part and part[0] in {"tanuki", "./scripts/tanuki"}:
            yield part[1:]
        part = []


SHOWN = sorted({tuple(words) for line in command_lines(TEXT) for words in tanuki_arguments(line)})


def parse(words: list[str]) -> None:
    """Parse the command line as the program does; raises what it raises for a wrong one."""
    command = typer.main.get_command(app)
    context = command.make_context("tanuki", words)
    rest = [*context._protected_args, *context.args]
    while rest:
        name, command, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]


def test_the_tables_are_up_to_date() -> None:
    assert make_readme_tables.main(["--check"]) == 0


def test_a_changed_table_is_found_and_written(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(TEXT.replace("| `/persona", "| `/character"), encoding="utf-8")
    assert make_readme_tables.main(["--check", "--readme", str(readme)]) == 1
    assert make_readme_tables.main(["--readme", str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == TEXT


def test_a_missing_table_is_an_error() -> None:
    with pytest.raises(make_readme_tables.MarkerError, match="keys:en"):
        make_readme_tables.with_tables(TEXT.replace("<!-- keys:en -->", ""))


def test_the_readme_shows_command_lines_of_both_kinds() -> None:
    assert ("chat", "-m", "mame") in SHOWN
    assert ("doctor",) in SHOWN
    assert len({words[0] for words in SHOWN}) >= 5


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_command_line_in_the_readme_parses(words: tuple[str, ...]) -> None:
    parse(list(words))


@pytest.mark.parametrize("line", ["tanuki chat --no-such-option", "git diff | tanuki ask --modle x"])
def test_a_wrong_command_line_is_found(line: str) -> None:
    (words,) = tanuki_arguments(line)
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parse(words)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:\]\(|src=\")(scripts/[^)\"]+)", TEXT))))
def test_a_file_the_readme_refers_to_is_there(target: str) -> None:
    assert (make_readme_tables.README.parent / target).is_file()

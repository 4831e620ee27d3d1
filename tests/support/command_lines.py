"""The command lines of tanuki that a text in Markdown shows, and whether they parse."""

import re
import shlex
from collections.abc import Iterator
from typing import Final

import typer.main

from tanuki_cli.cli import app

_OPERATORS: Final = {"|", "&&", ";", "||"}


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


def shown_command_lines(text: str) -> set[tuple[str, ...]]:
    """The arguments of every tanuki that ``text`` shows; a mere name such as ``tanuki ask`` is one, too."""
    return {tuple(words) for line in command_lines(text) for words in tanuki_arguments(line)}


def parse(words: list[str]) -> None:
    """Parse the command line as the program does; raises what it raises for a wrong one.

    The name of a command alone is taken for a mention of it: it need not have its arguments.
    """
    command = typer.main.get_command(app)
    if words == ["--version"]:  # is carried out while it is parsed
        return
    context = command.make_context("tanuki", words)
    rest = [*context._protected_args, *context.args]
    while rest:
        name, command, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context, resilient_parsing=not rest)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]

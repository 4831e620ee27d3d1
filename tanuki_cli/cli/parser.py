"""All that leans on how typer is made inside, in one place; tried with typer 0.29.0 and 0.29.2.

Documented methods of a command are overridden by :class:`Ours`. Three things are not documented, and do no
harm where a version lacks them: the conversion that :class:`AsTyped` replaces, the class that :func:`adopt`
puts into an app's commands, and the scripts of :mod:`typer._completion_shared`.
"""

import importlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer
import typer.core
import typer.main

from tanuki_cli.files import as_typed
from tanuki_cli.i18n import _
from tanuki_cli.options import fold
from tanuki_cli.settings.specs import SPEC_BY_KEY

_DASHES: Final = "-－−ー‐‑–—"
"""What the key of the hyphen types, with and without an input method."""
_WIDE_SPACE: Final = "\u3000"
_HYPHENS: Final = ("-", "－", "−")
"""Those of them that nobody begins a sentence with."""
_ENDS: Final = ("--", "－－", "−−")
_LONG_NAME: Final = re.compile(r"--[A-Za-z][A-Za-z-]+")


class Ours:
    """What every command of tanuki does otherwise than typer's: mixed into the class of each.

    It shows our help page, completes in the user's language, takes texts as they were typed, and options and
    command names also as an input method types them.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse ``args`` without typer's conversion."""
        command: Any = self
        parameters = command.get_params(ctx)
        for parameter in parameters:
            _take_as_typed(parameter)
        names = command.list_commands(ctx) if isinstance(self, typer.core.TyperGroup) else None
        rest: list[str] = super().parse_args(ctx, half_width(args, parameters, commands=names))  # type: ignore[misc]
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page, which :mod:`tanuki_cli.cli.help` lays out."""
        columns = shutil.get_terminal_size().columns
        page = importlib.import_module("tanuki_cli.cli.help").help_page(self, ctx, columns=columns)
        formatter.write(page)

    def get_short_help_str(self, limit: int = 0) -> str:
        """The summary, never cut: shells cut what is too long for them."""
        text: str = getattr(self, "help", None) or ""
        return " ".join(_(text).split("\n\n", 1)[0].split())

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """What typer finds, described in the user's language."""
        items = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        for item in items:
            item.help = _(item.help or "") or None
        return items


class Command(Ours, typer.core.TyperCommand):
    """A command."""


class Group(Ours, typer.core.TyperGroup):
    """A command that has commands."""


def adopt(app: typer.Typer) -> Any:
    """The command that ``app`` describes; it and all below it are ours."""
    _adopt(app)
    return typer.main.get_command(app)


def _adopt(app: typer.Typer) -> None:
    app.info.cls = _ours(app.info.cls, Group)
    for command in app.registered_commands:
        command.cls = _ours(command.cls, Command)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _adopt(group.typer_instance)


def _ours(own: Any, usual: type[Any]) -> type[Any]:
    """``own``, the class that an app asks for, with :class:`Ours` before it; else ``usual``."""
    if not isinstance(own, type) or own in {typer.core.TyperCommand, typer.core.TyperGroup}:
        return usual
    return own if issubclass(own, Ours) else type(own.__name__, (Ours, own), {})


# --- what was typed with an input method ------------------------------------------------------------------


def half_width(
    args: Sequence[str], parameters: Iterable[Any], *, commands: Sequence[str] | None = None
) -> list[str]:
    """``args`` with the names of options, and of a command among ``commands``, as the parser knows them.

    ``－－ｓｅｅｄ`` is ``--seed``, ``ａｓｋ`` is ``ask``, and a full-width space parts a name from what
    follows it. Nothing else changes: values are read by their options, and text for the model stays as it
    was typed. A whole name with two dashes that is none of this command's goes to the parser, which refuses
    it as it would have been refused half-width; what else only looks like an option is text.
    """
    flags = {
        name: bool(parameter.is_flag)
        for parameter in parameters
        if not isinstance(parameter, typer.core.TyperArgument)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    found: list[str] = []
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        name, mark, rest = split_name(word)
        if word in _ENDS:
            return [*found, "--", *waiting]
        if name not in flags:
            if _is_for_parser(name, flags, dash=word[:1]):
                found.append(f"{name}={rest}" if mark == "=" else name)
                waiting[:0] = [rest] if rest and mark != "=" else []
                continue
            if commands is None or word[:1] in _DASHES:
                found.append(word)
                continue
            return [*found, *_command_word(word, commands), *waiting]  # options after it are the command's
        if mark == "=":
            found.append(f"{name}={rest}")
        elif flags[name]:
            found.append(name)
            waiting[:0] = [rest] if rest else []
        else:
            value, more = _split_value(name, rest)
            found += [name, *([value] if rest else waiting[:1])]
            waiting[:] = [more, *waiting] if more else waiting[0 if rest else 1 :]
    return found


def _is_for_parser(name: str, flags: Mapping[str, bool], *, dash: str) -> bool:
    """Whether ``name``, which is no option here, is several short flags, or a long name to be refused."""
    if dash not in _HYPHENS:
        return False
    are_flags = len(name) > 2 and all(flags.get(f"-{letter}") for letter in name[1:])
    return are_flags or _LONG_NAME.fullmatch(name) is not None


def split_name(word: str) -> tuple[str, str, str]:
    """The parts of ``word``: an option's name, half-width; ``=`` or a blank after it; what follows that.

    A word that begins with no dash is all name, as it was typed.
    """
    if word[:1] not in _DASHES or not word:
        return word, "", ""
    end = next((index for index, char in enumerate(word) if char in f"=＝{_WIDE_SPACE}"), len(word))
    dashes = len(word) - len(word.lstrip(_DASHES))
    mark = fold(word[end : end + 1]) if end < len(word) else ""
    return "-" * dashes + fold(word[dashes:end]), mark, word[end + 1 :].lstrip(_WIDE_SPACE)


def _split_value(name: str, rest: str) -> tuple[str, str]:
    """The value at the start of ``rest``; a free text, which may hold full-width spaces, is all of it."""
    spec = SPEC_BY_KEY.get(name.lstrip("-").replace("-", "_"))
    short = next((spec for spec in SPEC_BY_KEY.values() if spec.short == name), None)
    spec = spec or short
    free = spec is None or (spec.kind in {"text", "texts"} and not spec.choices and not spec.is_name)
    value, _space, more = (rest, "", "") if free else rest.partition(_WIDE_SPACE)
    return value, more.lstrip(_WIDE_SPACE)


def _command_word(word: str, commands: Sequence[str]) -> list[str]:
    head, _space, rest = word.partition(_WIDE_SPACE)
    name = fold(head).lower()
    if name not in commands:
        return [word]
    return [name, rest] if rest else [name]


# --- conversion -------------------------------------------------------------------------------------------


class AsTyped:
    """The values of a parameter as they were typed, in place of typer's own conversion.

    Typer has pydantic convert flags, texts and paths, whose import is a third of all the time before a model
    is loaded. Numbers are texts here anyway: :mod:`tanuki_cli.options` reads them. Where typer does not know
    this hook any more, it converts them itself, and only full-width names of files are not understood.
    """

    def __init__(self, convert: Callable[[str], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """The converted value, or a tuple of them for what can be given repeatedly."""
        if param.nargs == -1 or getattr(param, "multiple", False):
            return tuple(self._convert(item) for item in value or ())
        return None if value is None else self._convert(value)


_CONVERSIONS: Final[Mapping[Any, Callable[[str], Any]]] = {
    bool: bool,
    str: str,
    list[str]: str,
    Path: as_typed,
    list[Path]: as_typed,
}


def _take_as_typed(parameter: Any) -> None:
    descriptor = getattr(parameter, "type_descriptor", None)
    convert = _CONVERSIONS.get(getattr(descriptor, "annotation", None))
    if convert is not None:
        parameter._runtime_param = AsTyped(convert)


# --- the shell's completion -------------------------------------------------------------------------------


def completion_shells() -> list[str]:
    """The shells that typer has scripts for."""
    return list(importlib.import_module("typer._completion_shared").Shells)


def current_shell() -> str | None:
    """The shell that runs this process, if it can be told."""
    name: str | None = importlib.import_module("typer._completion_shared")._get_shell_name()
    return name


def completion_script(shell: str, *, program: str, variable: str) -> str:
    """The script that lets ``shell`` complete ``program``, which asks by the environment ``variable``."""
    shared = importlib.import_module("typer._completion_shared")
    script: str = shared.get_completion_script(prog_name=program, complete_var=variable, shell=shell)
    return script


def install_script(shell: str, *, program: str, variable: str) -> Path:
    """Put that script where ``shell`` looks for it; the path. Raises OSError."""
    shared = importlib.import_module("typer._completion_shared")
    path: Path = shared.install(shell=shell, prog_name=program, complete_var=variable)[1]
    return path

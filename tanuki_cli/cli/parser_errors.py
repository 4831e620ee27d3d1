"""What is wrong with a command line, in our words, and what was probably meant."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer

from tanuki_cli.cli.commands import COMMAND_BY_NAME
from tanuki_cli.cli.parser import split_name
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _
from tanuki_cli.options import fold
from tanuki_cli.settings.specs import SPECS
from tanuki_cli.text.suggestions import suggest

COMMAND_HABITS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("run", "talk", "start", "repl", "interactive"), "chat"),
    **dict.fromkeys(("prompt", "query", "exec", "complete", "generate"), "ask"),
    **dict.fromkeys(("list", "ls"), "models"),
    **dict.fromkeys(("delete", "remove", "uninstall"), "rm"),
    **dict.fromkeys(("download", "install", "get", "fetch"), "pull"),
    **dict.fromkeys(("settings", "set", "options"), "config"),
    **dict.fromkeys(("logs", "log", "conversations", "sessions"), "history"),
    **dict.fromkeys(("info", "check", "status"), "doctor"),
    **dict.fromkeys(("benchmark", "speed", "perf"), "bench"),
    **dict.fromkeys(("server", "api"), "serve"),
    "kill": "stop",
    "man": "help",
    "version": "tanuki --version",
    "eval": "mtbench",
    "diff": "compare",
}
"""What other tools call our commands. Those that a version lacks are never said."""
INNER_HABITS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("delete", "remove", "del"), "rm"),
    **dict.fromkeys(("ls", "all"), "list"),
    **dict.fromkeys(("cat", "print", "view", "open"), "show"),
    **dict.fromkeys(("find", "grep"), "search"),
    **dict.fromkeys(("add", "create", "new", "write"), "save"),
    **dict.fromkeys(("rename", "name"), "title"),
    **dict.fromkeys(("backup", "dump"), "export"),
    **dict.fromkeys(("restore", "load"), "import"),
    "reset": "unset",
    "where": "path",
}
"""Likewise, below a command."""
OPTION_HABITS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("--max-tokens", "--n-predict", "--num-predict", "--max-length", "-n"), "--max-new-tokens"
    ),
    **dict.fromkeys(("--ctx-size", "--num-ctx", "--n-ctx", "--ctx", "--max-model-len"), "--context-length"),
    **dict.fromkeys(("--ngl", "--n-gpu-layers", "-ngl", "--num-gpu"), "--gpu-layers"),
    **dict.fromkeys(("--repetition-penalty", "--presence-penalty"), "--repeat-penalty"),
    **dict.fromkeys(("--no-history", "--incognito", "--no-log"), "--no-save"),
    **dict.fromkeys(("--cache-type-k", "--cache-type-v"), "--kv-type"),
    **dict.fromkeys(("--role", "--character"), "--persona"),
    **dict.fromkeys(("--verbose", "--timings"), "--stats"),
    **dict.fromkeys(("--format", "--output-format"), "--json"),
    "--system-prompt": "--system",
    "--num-thread": "--threads",
    "--raw": "--plain",
    "--silent": "--quiet",
    "--attach": "--file",
    "--session": "--resume",
}
"""What other tools call our options."""


def parser_error(error: Exception, arguments: Sequence[str]) -> InputError:
    """What the parser complains of in ``arguments``, as one of our errors."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path if context else 'tanuki'} --help"
    kind = type(error).__name__
    name = getattr(error, "option_name", None)
    if kind == "NoSuchOption":
        message = _("There is no option {name}.").format(name=name)
        return InputError(message, hint=_option_hint(str(name), context, arguments) or hint)
    if kind == "BadOptionUsage":
        return InputError(_("The option {name} needs a value.").format(name=name), hint=hint)
    if kind == "MissingParameter":
        parameter = getattr(error, "param", None)
        name = getattr(parameter, "metavar", None) or getattr(parameter, "name", "")
        return InputError(_("{name} is missing.").format(name=name), hint=hint)
    detail = getattr(error, "format_message", lambda: str(error))()
    if unknown := re.match(r"No such command '(.*?)'\.", detail):
        message = _("There is no command {name!r}.").format(name=unknown.group(1))
        return InputError(message, hint=_command_hint(unknown.group(1), context, arguments) or hint)
    if extra := re.search(r"unexpected extra argument.*\((.*)\)", detail):
        return InputError(_("{name} is one argument too many.").format(name=extra.group(1)), hint=hint)
    return InputError(_("The command line cannot be understood: {detail}").format(detail=detail), hint=hint)


def _command_hint(word: str, context: Any, arguments: Sequence[str]) -> str | None:
    group = context.command_path if context else "tanuki"
    known = context.command.list_commands(context) if context else list(COMMAND_BY_NAME)
    habits = COMMAND_HABITS if group == "tanuki" else INNER_HABITS
    found = suggest(fold(word).lower(), known, habits=habits)
    if found is None and group == "tanuki" and _is_question(word):
        return shlex.join(["tanuki", "ask", *arguments])
    return found if found is None or " " in found else f"{group} {found}"


def _is_question(word: str) -> bool:
    """Whether it is none of the words that commands, models and keys are called by."""
    return not fold(word).isascii() or " " in word


def _option_hint(name: str, context: Any, arguments: Sequence[str]) -> str | None:
    """Where the option belongs, or what it is called here; else the key of config.toml that it may mean."""
    normal = fold(name).lower().replace("_", "-")
    if context is None or context.command_path == "tanuki":
        return _in_order(name, context, arguments)
    own = _long_options(context.command, context)
    key = next((spec for spec in SPECS if spec.flag == normal), None)
    if key is not None:
        return f"tanuki config set {key.key} {key.example}"
    near = suggest(normal, own, habits=OPTION_HABITS)
    return _("Did you mean {key}?").format(key=near) if near else None


def _long_options(command: Any, context: Any) -> list[str]:
    return [
        option
        for parameter in command.get_params(context)
        if not isinstance(parameter, typer.core.TyperArgument)
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    ]


def _in_order(name: str, context: Any, arguments: Sequence[str]) -> str | None:
    """The command line with its options after the command, where that has them, or calls them otherwise;
    else the command's help. None if there is no command in it that it could be for.
    """
    place = next(
        (index for index, word in enumerate(arguments) if fold(word).lower() in COMMAND_BY_NAME), None
    )
    if place is None:
        return _command_left_out(name, context, arguments)
    command = fold(arguments[place]).lower()
    options = [*arguments[:place], *arguments[place + 1 :]]
    if context is not None and name.startswith("--"):
        own = _long_options(context.command.get_command(context, command), context)
        meant = name if name in own else suggest(name, own, habits=OPTION_HABITS)
        if meant is None:
            return f"tanuki {command} --help"
        parts = [(word, *split_name(word)) for word in options]
        options = [meant + mark + rest if found == name else word for word, found, mark, rest in parts]
    return shlex.join(["tanuki", command, *options])


def _command_left_out(name: str, context: Any, arguments: Sequence[str]) -> str | None:
    """The command line as a question, or as a chat, where ``name`` is an option of that."""
    command = "ask" if any(map(_is_question, arguments)) else "chat"
    parameters = context.command.get_command(context, command).get_params(context) if context else ()
    known = any(name in (*parameter.opts, *parameter.secondary_opts) for parameter in parameters)
    return shlex.join(["tanuki", command, *arguments]) if known else None

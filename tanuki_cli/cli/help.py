"""``--help`` and the parser's own errors in the user's language.

Help texts are English message ids in the code; they are translated here, on the finished command
tree, when the language is known.
"""

from typing import TypeVar

import typer.core
import typer.rich_utils

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _

_PARSER_TEXTS = (
    N_("Show this message and exit."),
    N_("Install completion for the current shell."),
    N_("Show completion for the current shell, to copy it or customize the installation."),
)
CommandT = TypeVar("CommandT", bound=typer.core.TyperCommand | typer.core.TyperGroup)


def translated(command: CommandT) -> CommandT:
    """Translate every help text below ``command``, in place."""
    rich_utils = typer.rich_utils
    rich_utils.ARGUMENTS_PANEL_TITLE = _("Arguments")
    rich_utils.OPTIONS_PANEL_TITLE = _("Options")
    rich_utils.COMMANDS_PANEL_TITLE = _("Commands")
    rich_utils.DEFAULT_STRING = _("[default: {}]")
    rich_utils.REQUIRED_LONG_STRING = _("[required]")
    command.help = _(command.help) if command.help else command.help
    command.short_help = _(command.short_help) if command.short_help else command.short_help
    for parameter in command.params:
        for name in ("help", "rich_help_panel"):
            if text := getattr(parameter, name, None):
                setattr(parameter, name, _(text))
    for child in getattr(command, "commands", {}).values():
        translated(child)
    return command


def parser_error(error: Exception, arguments: list[str]) -> InputError:
    """What the parser complains of, as one of our errors."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path if context else 'tanuki'} --help"
    name = getattr(error, "option_name", None)
    kind = type(error).__name__
    if kind == "NoSuchOption":
        near = ", ".join(getattr(error, "possibilities", None) or ())
        message = _("There is no option {name}.").format(name=name)
        return InputError(message, hint=_("Did you mean {key}?").format(key=near) if near else hint)
    if kind == "BadOptionUsage":
        return InputError(_("The option {name} needs a value.").format(name=name), hint=hint)
    if kind == "MissingParameter":
        parameter = getattr(error, "param", None)
        name = parameter.display_name_raw if parameter is not None else ""
        return InputError(_("{name} is missing.").format(name=name), hint=hint)
    detail = getattr(error, "format_message", lambda: str(error))()
    return InputError(_("The command line cannot be understood: {detail}").format(detail=detail), hint=hint)

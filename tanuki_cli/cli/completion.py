"""``--install-completion`` and ``--show-completion``: typer's scripts, our words."""

import shlex
from pathlib import Path
from typing import Final

import typer

from tanuki_cli.cli.parser import completion_script, completion_shells, current_shell, install_script
from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

_NAME: Final = "tanuki"
_VARIABLE: Final = "_TANUKI_COMPLETE"


def install_completion() -> None:
    """Install completion for the shell that runs this. Raises InputError."""
    shell = _shell()
    try:
        path = install_script(shell, program=_NAME, variable=_VARIABLE)
    except OSError as exc:
        raise InputError(
            _("The completion of {shell} could not be installed: {reason}.").format(
                shell=shell, reason=os_reason(exc)
            ),
            hint="tanuki --show-completion",
        ) from exc
    typer.echo(_("Completion for {shell} is installed: {path}").format(shell=shell, path=path))
    typer.echo(_("It works in every terminal that you open from now on."))
    for line in _how_to_undo(shell, path):
        typer.echo(line)


def _how_to_undo(shell: str, path: Path) -> list[str]:
    """What takes it back; for bash and zsh a line was added to a file of the user's, too."""
    undo = _("To undo: {command}").format(command=f"rm {shlex.quote(str(path))}")
    added = {
        "bash": ("~/.bashrc", f"source '{path}'"),
        "zsh": ("~/.zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    }.get(shell)
    if added is None:
        return [undo]
    return [undo, _("A line was added to {path}: {line}").format(path=added[0], line=added[1])]


def show_completion() -> None:
    """Print the script of the shell that runs this. Raises InputError."""
    typer.echo(completion_script(_shell(), program=_NAME, variable=_VARIABLE))


def _shell() -> str:
    name, known = current_shell(), completion_shells()
    if name is None or name not in known:
        raise InputError(
            _("There is no completion for this shell ({shell}).").format(shell=name or "?"),
            hint=_("Run it in one of: {shells}").format(shells=", ".join(known)),
        )
    return name

"""``--install-completion`` and ``--show-completion``: typer's scripts, our words."""

from typing import Final

import typer
from typer._completion_shared import Shells, _get_shell_name, get_completion_script, install

from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

_NAME: Final = "tanuki"
_VARIABLE: Final = "_TANUKI_COMPLETE"


def install_completion() -> None:
    """Install completion for the shell that runs this. Raises InputError."""
    shell = _shell()
    try:
        _name, path = install(shell=shell, prog_name=_NAME, complete_var=_VARIABLE)
    except OSError as exc:
        raise InputError(
            _("The completion of {shell} could not be installed: {reason}.").format(
                shell=shell, reason=os_reason(exc)
            ),
            hint="tanuki --show-completion",
        ) from exc
    typer.echo(_("Completion for {shell} is installed: {path}").format(shell=shell, path=path))
    typer.echo(_("It works in every terminal that you open from now on."))


def show_completion() -> None:
    """Print the script of the shell that runs this. Raises InputError."""
    typer.echo(get_completion_script(prog_name=_NAME, complete_var=_VARIABLE, shell=_shell()))


def _shell() -> str:
    name = _get_shell_name()
    if name is None or name not in list(Shells):
        raise InputError(
            _("There is no completion for this shell ({shell}).").format(shell=name or "?"),
            hint=_("Run it in one of: {shells}").format(shells=", ".join(Shells)),
        )
    return name

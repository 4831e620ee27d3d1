"""Editing a text in the user's own editor."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.terminal.typing_ahead import usual_typing


def edit_text(text: str) -> str | None:
    """Open ``text`` in ``$VISUAL`` or ``$EDITOR`` (else vi) and return what was saved.

    None if the editor failed. Raises InputError if there is no such editor.
    """
    descriptor, name = tempfile.mkstemp(prefix="tanuki-", suffix=".md", text=True)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path.read_text(encoding="utf-8").rstrip("\n") if edit_file(path) else None
    finally:
        path.unlink(missing_ok=True)


def edit_file(path: Path) -> bool:
    """Open ``path`` itself in ``$VISUAL`` or ``$EDITOR`` (else vi), and say whether the editor succeeded.

    Raises InputError if there is no such editor.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        # Ctrl-C in the editor is the editor's, but the terminal sends it to us as well.
        with on_interrupt(lambda: None), usual_typing(sys.stdin):
            return subprocess.run([*command, str(path)], check=False).returncode == 0
    except (FileNotFoundError, PermissionError) as exc:
        raise InputError(
            _("The editor {command!r} was not found.").format(command=command[0]), hint="export EDITOR=nano"
        ) from exc

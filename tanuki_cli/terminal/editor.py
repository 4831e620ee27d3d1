"""Editing a text in the user's own editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _


def edit_text(text: str) -> str | None:
    """Open ``text`` in ``$VISUAL`` or ``$EDITOR`` (else vi) and return what was saved.

    None if the editor failed. Raises InputError if there is no such editor.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    descriptor, name = tempfile.mkstemp(prefix="tanuki-", suffix=".md", text=True)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        finished = subprocess.run([*command, name], check=False)
        return path.read_text(encoding="utf-8").rstrip("\n") if finished.returncode == 0 else None
    except FileNotFoundError as exc:
        raise InputError(
            _("The editor {command!r} was not found.").format(command=command[0]), hint="export EDITOR=nano"
        ) from exc
    finally:
        path.unlink(missing_ok=True)

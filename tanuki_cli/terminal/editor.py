"""Editing a text in the user's own editor."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tanuki_cli.errors import InputError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.terminal.typing_ahead import usual_typing
from tanuki_cli.text.decoding import decode_text

_HINT: Final = "export EDITOR=nano"


def edit_text(text: str) -> str | None:
    """Open ``text`` in ``$VISUAL`` or ``$EDITOR`` (else vi) and return what was saved, in any encoding.

    None if the editor failed. Raises InputError if there is no such editor, if the text cannot be handed to
    it, and for what is no text; that is kept where it was saved.
    """
    path: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix="tanuki-", suffix=".md")
        path = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", errors="replace"))  # a lone surrogate has no other form
        saved = path.read_bytes() if edit_file(path) else None
    except OSError as exc:
        _remove(path)
        raise InputError(
            _("The text cannot be handed to the editor and back: {reason}").format(reason=os_reason(exc)),
            hint=_("Check the permissions and the free space of {path}.").format(path=tempfile.gettempdir()),
        ) from exc
    except BaseException:
        _remove(path)
        raise
    try:
        edited = None if saved is None else decode_text(saved, name=name).rstrip("\n")
    except InputError as exc:
        raise InputError(
            exc.message,
            hint=_("It stays there; save it as text in UTF-8, then: /file {path}").format(path=name),
        ) from exc
    _remove(path)
    return edited


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def edit_file(path: Path) -> bool:
    """Open ``path`` itself in ``$VISUAL`` or ``$EDITOR`` (else vi), and say whether the editor succeeded.

    Raises InputError if there is no such editor.
    """
    command = _command()
    try:
        # Ctrl-C in the editor is the editor's, but the terminal sends it to us as well.
        with on_interrupt(lambda: None), usual_typing(sys.stdin):
            return subprocess.run([*command, str(path)], check=False).returncode == 0
    except (FileNotFoundError, PermissionError) as exc:
        raise InputError(
            _("The editor {command!r} was not found.").format(command=command[0]), hint=_HINT
        ) from exc
    except (OSError, ValueError) as exc:  # not a program, too long, with a zero in it
        reason = os_reason(exc) if isinstance(exc, OSError) else str(exc)
        raise InputError(
            _("The editor {command!r} cannot be started: {reason}").format(command=command[0], reason=reason),
            hint=_HINT,
        ) from exc


def _command() -> list[str]:
    """The editor and its arguments; a variable that is blank counts as not set."""
    for variable in ("VISUAL", "EDITOR"):
        value = os.environ.get(variable, "")
        try:
            command = shlex.split(value)
        except ValueError as exc:
            raise InputError(
                _("${variable} has quotes that do not match: {value}").format(variable=variable, value=value),
                hint=_HINT.replace("EDITOR", variable),
            ) from exc
        if command and command[0]:
            return command
    return ["vi"]

"""The clipboard: OSC 52, which also works over ssh, then a local one through pyperclip."""

import base64
from typing import Final

import pyperclip

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console

_OSC52_LIMIT: Final = 74_994
"""Bytes of text most terminals take: 100,000 characters of base64 with the frame."""


def copy_text(text: str, console: Console) -> None:
    """Copy ``text``. Raises InputError if neither the terminal nor the desktop takes it."""
    data = text.encode("utf-8")
    sent = console.out_can_move_cursor and len(data) <= _OSC52_LIMIT
    if sent:
        console.write(f"\x1b]52;c;{base64.b64encode(data).decode('ascii')}\x07")
    try:
        pyperclip.copy(text)
    except pyperclip.PyperclipException as exc:
        if not sent:
            raise InputError(_("There is no clipboard here."), hint="/export chat.md") from exc


def read_clipboard() -> str:
    """The text on the desktop's clipboard. Raises InputError if there is none."""
    try:
        text = str(pyperclip.paste())
    except pyperclip.PyperclipException as exc:
        raise InputError(
            _("There is no clipboard here."), hint=_("Paste with the terminal's own key: it never sends.")
        ) from exc
    if not text:
        raise InputError(_("The clipboard is empty."))
    return text

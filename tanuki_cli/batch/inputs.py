"""The file of rows, so that it can be read as often as need be."""

import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from tanuki_cli.errors import InputError
from tanuki_cli.files import TooLargeError, os_reason
from tanuki_cli.i18n import _

STDIN: Final = "-"
_MAX_PIPED: Final = 1 << 30
"""Bytes that are kept of a pipe; a model is asked for years about so many rows."""


@contextmanager
def open_input(path: str, stdin: BinaryIO, *, output: Path | None) -> Iterator[tuple[BinaryIO, str]]:
    """The file ``path`` and what to call it; ``-`` is ``stdin``.

    What comes only once, as a pipe does, is kept in a temporary file. Raises InputError if it cannot be
    read, and if it is the ``output``, too.
    """
    name = _("The standard input") if path == STDIN else path
    with ExitStack() as stack:
        try:
            file = stdin if path == STDIN else stack.enter_context(Path(path).open("rb"))
            if path != STDIN and output is not None and output.exists() and output.samefile(path):
                raise InputError(
                    _("{path} cannot be input and output at once.").format(path=path),
                    hint="tanuki batch INPUT -o OUTPUT",
                )
            if path == STDIN or not stat.S_ISREG(Path(path).stat().st_mode):
                kept = stack.enter_context(tempfile.TemporaryFile())
                _keep(file, kept)
                file = kept
        except OSError as exc:
            raise InputError(
                _("{name} cannot be read: {reason}.").format(name=name, reason=os_reason(exc)),
                hint=_("Check the name and the permissions."),
            ) from exc
        yield file, name


def _keep(source: BinaryIO, kept: BinaryIO) -> None:
    """Copy what comes only once. Raises TooLargeError where it does not end."""
    left = _MAX_PIPED
    while part := source.read(1 << 20):
        left -= len(part)
        if left < 0:
            raise TooLargeError
        kept.write(part)

"""The streams of the process, and which of them get colour."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from msgspec import Struct


class Streams(Struct, frozen=True, kw_only=True):
    """The three streams of the process, so that tests can pass others."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO

    @classmethod
    def of_process(cls) -> "Streams":
        """The real ones. A character that their encoding lacks prints as ``?`` instead of failing."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                with suppress(OSError):  # it flushes; who writes next is told
                    stream.reconfigure(errors="replace")
        # A stream that was closed before the start (``<&-``) is None: nothing comes, nothing is shown.
        return cls(
            stdin=sys.stdin or Path(os.devnull).open(encoding="utf-8"),
            stdout=sys.stdout or Path(os.devnull).open("w", encoding="utf-8"),
            stderr=sys.stderr or Path(os.devnull).open("w", encoding="utf-8"),
        )


def wants_color(stream: TextIO, environ: Mapping[str, str], *, no_color: bool) -> bool:
    """Whether ``stream`` gets colour, by the usual variables.

    ``--no-color`` and ``NO_COLOR`` (if not empty) win; then ``FORCE_COLOR`` and ``CLICOLOR_FORCE``
    force it even into a pipe; then it needs a terminal that is not dumb and ``CLICOLOR`` not 0.
    """
    if no_color or environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "0") not in {"", "0"} or environ.get("CLICOLOR_FORCE", "0") not in {
        "",
        "0",
    }:
        return True
    return stream.isatty() and environ.get("TERM") != "dumb" and environ.get("CLICOLOR") != "0"

"""How long something lasts, as people type it: ``10m``, ``90`` (seconds), ``1h``, ``forever``."""

import re
from typing import Final

from tanuki_cli.i18n import _
from tanuki_cli.options import fold

FOREVER: Final = ("forever", "-1")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)")
_LONGEST_S: Final = 366 * 86400


def parse_duration(text: str, *, name: str) -> float | None:
    """Seconds; None for ever. Raises ValueError with a sentence that calls the value ``name``."""
    folded = fold(text).lower()
    if folded in FOREVER:
        return None
    match = _DURATION.fullmatch(folded)
    seconds = int(match[1]) * _UNITS[match[2]] if match is not None else -1
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError(
            _("{key} cannot be {value!r}: allowed are times such as 90s, 10m, 2h, and forever.").format(
                key=name, value=text
            )
        )
    return float(seconds)

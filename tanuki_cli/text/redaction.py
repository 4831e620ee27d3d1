"""Secrets of this process, and the one filter that keeps them from leaving it.

An API key is remembered when it is first used. From then on it is replaced in everything a server says, as it
comes in (so neither the history nor a model's name can hold it), and again in everything that is printed, for
a traceback has texts that passed no border of ours.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

PLACE: Final = "…"
"""Stands where a secret was."""
_LONG_ENOUGH: Final = 8
_SHORTEST: Final = 6
_secrets: Final[set[str]] = set()
_QUERY: Final = r"""(?i)([a-z][a-z0-9+.-]*://[^\s?#"'<>]*)\?[^\s#"'<>]*"""


def remember_secret(value: str) -> None:
    """Never let ``value`` out again.

    Words such as ``ollama`` and ``EMPTY``, which stand in for a key where none is checked, stay: they are no
    secret, and whatever is answered may hold them.
    """
    if len(value) >= _LONG_ENOUGH or (len(value) >= _SHORTEST and not value.isalpha()):
        _secrets.update((value, json.dumps(value)[1:-1]))  # also as it is written within JSON


def redact(text: str) -> str:
    """``text`` without the secrets of this process."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, PLACE)
    return text


def hide_queries(text: str) -> str:
    """``text`` of ours with ``?…`` for the query of each address in it, which may be as secret as a key.

    Not for what a model or the user wrote: most queries are none.
    """
    return re.sub(_QUERY, rf"\1?{PLACE}", text) if "?" in text else text


def without_query(reference: str) -> str:
    """An address without its query, to be kept; anything else as it is."""
    return re.sub(_QUERY, r"\1", reference) if "?" in reference else reference


def redact_json(value: object) -> object:
    """``value``, as the json module reads it, without secrets in any text or name.

    Raises RecursionError where it is nested too deeply.
    """
    if not _secrets:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(name): redact_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [redact_json(item) for item in value]
    return value


class Redactor:
    """A streaming :func:`redact`: what may be the beginning of a secret is held back until it is decided."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> str:
        """What of the text so far is decided, without secrets."""
        if not _secrets:
            return text
        # Replacing first: what remains has no whole secret, so that a held back end is only a beginning.
        self._pending = redact(self._pending + text)
        keep = max(map(self._begun, _secrets))
        cut = len(self._pending) - keep
        decided, self._pending = self._pending[:cut], self._pending[cut:]
        return decided

    def finish(self) -> str:
        """What was held back, at the end of the text."""
        decided, self._pending = self._pending, ""
        return decided

    def _begun(self, secret: str) -> int:
        """How long an end of the pending text begins ``secret``."""
        longest = min(len(secret) - 1, len(self._pending))
        return next((size for size in range(longest, 0, -1) if self._pending.endswith(secret[:size])), 0)

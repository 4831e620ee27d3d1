"""Characters that come in two halves: servers cut JSON between the surrogates of an emoji."""

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LEADING: Final = re.compile("[\ud800-\udbff]\\Z")


class SurrogateJoiner:
    """Joins the halves of text that comes in pieces; one that stays alone becomes U+FFFD."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str) -> str:
        """``text`` without surrogates, after what was held back; a first half at its end is."""
        if not self._half and not _SURROGATE.search(text):
            return text
        text = self._half + text
        match = _LEADING.search(text)
        self._half = match[0] if match else ""
        whole = _PAIR.sub(_joined, text.removesuffix(self._half))
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", whole)

    def finish(self) -> str:
        """What stands for a half that stayed alone."""
        half, self._half = self._half, ""
        return "\N{REPLACEMENT CHARACTER}" if half else ""


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")

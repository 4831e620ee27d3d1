"""The one gate between foreign text and the terminal.

Everything that was not written by this program (model output, files, server replies, model
metadata, file names, history) passes through here before it is printed. What comes out holds only
printable characters, newlines and tabs, so that printing it can change nothing but the text on the
screen. Nothing is dropped in silence: what could act on the terminal, reorder text or hide in it
is shown as a visible symbol.

    C0 and DEL            ␛ ␍ ␈ … (Control Pictures); a CR that belongs to a CRLF is part of it
    C1, bidi controls,
    other format controls <U+009B> <U+202E> …
    surrogates            U+FFFD
    zero-width floods     the first few stay, then <+37 zero-width>
    marks without a base  drawn on a dotted circle, never on what was printed before

What Japanese, emoji and other scripts need stays: dakuten, variation selectors, ZWJ sequences,
flags, a few combining marks.
"""

import re
import unicodedata
from enum import Enum
from functools import lru_cache
from typing import Final

MAX_ZERO_WIDTH: Final = 6
"""Zero-width characters allowed after one visible character; Thai, Hebrew and Burmese need up to 5."""

# Text made of these alone needs no further look: ASCII, Latin, kana, CJK, full-width forms.
_HARMLESS: Final = re.compile(r"[\n\t -~\u00a1-\u00ac\u00ae-\u02ff\u3001-\u3029\u3030-\u303e\u3041-\u3096"
                              r"\u309b-\u30ff\u4e00-\u9fff\uff01-\uff9f]+")  # fmt: skip
# Format characters that may stay: zero-width space, (non-)joiner, word joiner, BOM, and the
# Arabic, Syriac and Kaithi signs that are visible although Unicode counts them as format.
_ALLOWED_FORMAT: Final = frozenset(
    "\u200b\u200c\u200d\u2060\ufeff\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    "\U000110bd\U000110cd"
)
_BLACK_FLAG: Final = "\U0001f3f4"
_TAGS: Final = range(0xE0020, 0xE0080)
# The flags of England, Scotland and Wales are the only tag sequences in use.
_FLAG_TAGS: Final = frozenset(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
_NO_BASE: Final = frozenset(" \n\t\u3000")


class _Kind(Enum):
    PRINT = 0
    ZERO_WIDTH = 1
    TAG = 2
    RETURN = 3
    SHOW = 4


@lru_cache(maxsize=4096)
def _kind(char: str) -> _Kind:
    code = ord(char)
    if char in "\n\t":
        return _Kind.PRINT
    if char == "\r":
        return _Kind.RETURN
    if code in _TAGS:
        return _Kind.TAG
    category = unicodedata.category(char)
    if category in {"Cc", "Cs", "Zl", "Zp"} or (category == "Cf" and char not in _ALLOWED_FORMAT):
        return _Kind.SHOW
    from wcwidth import wcwidth  # most text is harmless, and never comes here

    # A newer emoji than this Python knows is wide for wcwidth; everything else unassigned is shown.
    if category == "Cn" and wcwidth(char) != 2:
        return _Kind.SHOW
    return _Kind.ZERO_WIDTH if wcwidth(char) <= 0 else _Kind.PRINT


def visible(char: str) -> str:
    """A printable symbol for one character that must not be printed."""
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code < 0xE000:
        return "\ufffd"
    return f"<U+{code:04X}>"


class Sanitizer:
    """A streaming :func:`sanitize`: the joined results do not depend on where the input was split.

    At most a CR, the tail of a flag or the count of a flood is held back.
    """

    def __init__(self) -> None:
        self._has_base = False
        self._zero_width = 0
        self._return = False
        self._tags = ""
        self._flag = False

    def feed(self, text: str) -> str:
        """The printable form of what ``text`` completes."""
        parts: list[str] = []
        position = 0
        for harmless in _HARMLESS.finditer(text):
            parts += map(self._next, text[position : harmless.start()])
            parts.append(self._pass(harmless[0]))
            position = harmless.end()
        parts += map(self._next, text[position:])
        return "".join(parts)

    def finish(self) -> str:
        """The printable form of what was held back at the end of the text."""
        return self._release("")

    def _pass(self, harmless: str) -> str:
        released = self._release(harmless[0])
        self._has_base = harmless[-1] not in _NO_BASE
        self._flag = False
        return released + harmless

    def _next(self, char: str) -> str:
        kind = _kind(char)
        if kind is _Kind.ZERO_WIDTH and not (self._return or self._tags):
            return self._mark(char)
        if kind is _Kind.TAG and not self._return and (self._flag or self._tags):
            return self._tag(char)
        released = self._release(char)
        if kind is _Kind.ZERO_WIDTH:
            return released + self._mark(char)
        if kind is _Kind.RETURN:
            self._return = True
            return released
        self._flag = char == _BLACK_FLAG
        self._has_base = char not in _NO_BASE
        return released + (char if kind is _Kind.PRINT else visible(char))

    def _mark(self, char: str) -> str:
        self._flag = False
        if not self._has_base:
            self._has_base = True
            if not unicodedata.category(char).startswith("M"):
                return visible(char)
            self._zero_width = 1
            return "\u25cc" + char
        self._zero_width += 1
        return char if self._zero_width <= MAX_ZERO_WIDTH else ""

    def _tag(self, char: str) -> str:
        self._flag = False
        self._tags += char
        if self._tags in _FLAG_TAGS:
            tags, self._tags = self._tags, ""
            return tags
        if any(flag.startswith(self._tags) for flag in _FLAG_TAGS):
            return ""
        return self._release("")

    def _release(self, following: str) -> str:
        """Give up waiting: ``following`` is the character that ended the wait, empty at the end."""
        released = ""
        if self._zero_width > MAX_ZERO_WIDTH:
            released += f"<+{self._zero_width - MAX_ZERO_WIDTH} zero-width>"
        if self._tags:
            released += "".join(map(visible, self._tags))
        if self._return and following != "\n":
            released += visible("\r")
        self._has_base = self._has_base or bool(released)
        self._zero_width, self._tags, self._return = 0, "", False
        return released


def sanitize(text: str) -> str:
    """``text`` with everything that could act on a terminal, reorder or hide shown as symbols.

    Idempotent; text without such characters is returned as it is.
    """
    if not text or _HARMLESS.fullmatch(text):
        return text
    sanitizer = Sanitizer()
    return sanitizer.feed(text) + sanitizer.finish()


def sanitize_line(text: str) -> str:
    """:func:`sanitize` for a label of one line (a file name, a title): newlines and tabs show too."""
    return sanitize(text).replace("\n", visible("\n")).replace("\t", visible("\t"))

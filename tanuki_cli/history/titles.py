"""Titles: the beginning of the first question, short enough for one line."""

import re
import unicodedata
from typing import Final

from tanuki_cli.conversation import Conversation

MAX_TITLE_CELLS: Final = 48

_MARKUP: Final = re.compile(r"^(?:#{1,6}|>|[-*+]|\d+[.)])\s+|^`{3,}\w*$")
_SENTENCE_END: Final = re.compile(r"(?<=[。！？])|(?<=[.!?])(?=\s)")


def automatic_title(conversation: Conversation) -> str:
    """The title of ``conversation`` made from its first question; "" while nothing was asked."""
    questions = (node.message.content for node in conversation.nodes.values() if node.message.role == "user")
    return next((title for title in map(title_from, questions) if title), "")


def title_from(text: str) -> str:
    """The first sentence of the first line with text in it, at most MAX_TITLE_CELLS wide.

    Markdown's line markers, control characters and runs of white space are left out.
    """
    for line in text.splitlines():
        plain = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in line)
        plain = " ".join(_MARKUP.sub("", " ".join(plain.split())).split())
        if plain:
            sentence = _SENTENCE_END.split(plain, maxsplit=1)[0].strip()
            return _shorten(sentence.removesuffix("。"), MAX_TITLE_CELLS)
    return ""


def _shorten(text: str, cells: int) -> str:
    """``text`` cut to ``cells`` terminal cells; a cut shows as "…"."""
    if sum(map(_width, text)) <= cells:
        return text
    room = cells - 1
    for index, char in enumerate(text):
        room -= _width(char)
        if room < 0:
            return text[:index].rstrip() + "…"
    return text


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1

"""How much of an answer is Japanese: markup taken away, then character by character, as Swallow does it.

White space is no character here, as how much of it there is depends on the renderer that takes the markup
away; Swallow's figures count it, and are a little lower.
"""

import re
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_JAPANESE: Final = re.compile("[\u3041-\u309f\u30a1-\u30ff\u4e00-\u9fff\uff01-\uff5e\u3001-\u3036]")
"""Kana, kanji, full-width forms, Japanese punctuation and symbols."""


def japanese_count(text: str) -> tuple[int, int]:
    """How many characters of ``text`` without its Markdown are Japanese, and how many there are."""
    plain = "".join(plain_text(text).split())
    return len(_JAPANESE.findall(plain)), len(plain)


def plain_text(text: str) -> str:
    """What is read of Markdown: no marks, no addresses of links; code stays."""
    return "\n".join(_texts(MarkdownIt("commonmark", {"html": False}).parse(text)))


def _texts(tokens: list[Token]) -> list[str]:
    found = []
    for token in tokens:
        if token.type == "inline":
            found.append("".join(_inline(token.children or [])))
        elif token.type in ("fence", "code_block"):
            found.append(token.content.rstrip("\n"))
    return found


def _inline(children: list[Token]) -> list[str]:
    return ["\n" if child.type in ("softbreak", "hardbreak") else child.content for child in children]

"""Mathematics in an answer: LaTeX stays as the model wrote it, where Markdown would eat half of it.

``\\( … \\)``, ``\\[ … \\]``, ``$ … $`` and ``$$ … $$`` inside a paragraph; of these the displayed ones, and
``\\begin{…}``, as blocks of their own lines. A backslash before a bracket (``\\{1, 2\\}``) stays, too.
"""

import re
from typing import Final

from markdown_it.rules_inline.state_inline import StateInline

OPEN_MATHEMATICS: Final = re.compile(r"\\[(\[]|\$")
"""The beginning of mathematics in text of which the end may still come."""
BLOCK_BEGINNING: Final = r"\$\$|\\\[|\\begin\{"

_BLOCK: Final = re.compile(r" {0,3}(?:(?P<mark>\$\$|\\\[)|\\begin\{(?P<name>[A-Za-z*]{1,40})\})(?P<rest>.*)")
_CLOSED_BY: Final = {"$$": "$$", "\\[": "\\]"}
# A dollar sign may be a price: no blank inside beside it, no digit after it.
_DOLLARS: Final = re.compile(r"\$(?![\s$])(?:[^$\\]|\\.)*?(?<!\s)\$(?!\d)", re.DOTALL)
INLINE: Final = re.compile(rf"\\\(.+?\\\)|{_DOLLARS.pattern}")
"""What is mathematics in one line."""
_KEPT: Final = frozenset("()[]{},;:")
_LONGEST: Final = 5000
"""Characters that are looked through for the end."""


def block_end(line: str) -> str | None:
    """What ends the block of mathematics that ``line`` begins: empty if the line is all of it.

    None if it begins none: mathematics with text after it belongs to a paragraph.
    """
    match = _BLOCK.fullmatch(line)
    if match is None:
        return None
    end = _CLOSED_BY[match["mark"]] if match["mark"] else f"\\end{{{match['name']}}}"
    before, found, after = match["rest"].partition(end)
    if not found:
        return end
    return "" if before.strip() and not after.strip() else None


def mathematics(state: StateInline, silent: bool) -> bool:
    """A rule of markdown-it: what is mathematics becomes text as it stands."""
    source, start = state.src, state.pos
    end = _end(source, start, min(state.posMax, start + _LONGEST))
    if end is None:
        return False
    if not silent:
        state.push("math", "", 0).content = source[start:end]
    state.pos = end
    return True


def _end(source: str, start: int, limit: int) -> int | None:
    """Where the mathematics, or the pair of a backslash and a bracket, ends that begins at ``start``."""
    begun = source[start : start + 2]
    if begun in {"\\(", "\\[", "$$"}:
        closing = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}[begun]
        place = source.find(closing, start + 2, limit)
        if place > start + 2:
            return place + 2
    if begun[:1] == "$" and begun != "$$":
        match = _DOLLARS.match(source, start, limit)
        # 100$、…、200$: prices, which are written so in Japanese too
        if match is None or (source[:start][-1:].isdigit() and not match[0].isascii()):
            return None
        return match.end()
    if begun[:1] == "\\" and begun[1:] and begun[1] in _KEPT:
        return start + 2
    return None

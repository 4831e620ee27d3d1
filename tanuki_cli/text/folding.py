"""Text as the search compares it, and where each folded character came from.

Folding makes half-width kana, full-width letters, ligatures and upper case equal to their plain
forms: NFKC, case folding, and NFKC again, because case folding can undo the first.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

# Characters that fold to themselves or to one lower-case letter, whatever stands before them. The
# last one of a run is left to the slow path: a mark that follows joins it.
_PLAIN_RUN: Final = r"[\t\n !-~、-〃「-】ぁ-ゖァ-ヺー一-鿿]+(?=[\t\n !-~、-〃「-】ぁ-ゖァ-ヺー一-鿿])"


def fold(text: str) -> str:
    """The folded form; U+0000, at which SQLite would stop reading, becomes U+FFFD."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded).replace("\x00", "\ufffd")


class FoldedText(Struct, frozen=True):
    """A folded text with its way back.

    The folded character ``i`` came from ``original[starts[i]:ends[i]]``; several may share a source,
    as the two of "㍿" or the one of "ｶﾞ" do.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, original: str) -> "FoldedText":
        """Fold ``original``; ``text`` equals ``fold(original)``."""
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        for start, end, one_to_one in _segments(original):
            part = fold(original[start:end])
            parts.append(part)
            if one_to_one:
                starts.extend(range(start, end))
                ends.extend(range(start + 1, end + 1))
            else:
                starts.extend([start] * len(part))
                ends.extend([end] * len(part))
        return cls("".join(parts), tuple(starts), tuple(ends))

    def find_all(self, term: str) -> Iterator[tuple[int, int]]:
        """Where the folded ``term`` occurs without overlap: start and end in the original text."""
        position = self.text.find(term)
        while position >= 0:
            last = position + len(term) - 1
            yield self.starts[position], self.ends[last]
            position = self.text.find(term, last + 1)


def _segments(text: str) -> Iterator[tuple[int, int, bool]]:
    """Cut ``text`` where folding the pieces is folding the whole: start, end, one-to-one."""
    plain_run = re.compile(_PLAIN_RUN)  # here, since it takes milliseconds, and many programs never search
    position = 0
    while position < len(text):
        if run := plain_run.match(text, position):
            yield position, run.end(), True
            position = run.end()
            continue
        end = position + 1
        while end < len(text) and _joins(text[position:end], text[end]):
            end += 1
        yield position, end, False
        position = end


def _joins(before: str, char: str) -> bool:
    """Whether ``char`` changes with what stands before it: a combining mark, a Hangul part."""
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.combining(first) != 0 or fold(before + char) != fold(before) + fold(char)

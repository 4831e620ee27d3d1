"""Where words begin and end, for moving and deleting in a line: Japanese has no blanks between them.

A word is a run of one script (kanji, hiragana, katakana, letters and digits, other signs); blanks and
punctuation part words. A run of hiragana, of which a sentence may have a whole clause, is parted where
BudouX sees a phrase.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.text.width import graphemes

_Kind = Literal["blank", "mark", "kanji", "hiragana", "katakana", "letters", "sign"]
_WINDOW: Final = 200
"""Characters around the place that are looked at; a longer word is cut there."""
_SHORTEST_PHRASE: Final = 2


class _Run(Struct, frozen=True):
    kind: _Kind
    start: int
    end: int


def word_start(text: str, position: int) -> int:
    """Where the word begins that stands before ``position``, blanks and punctuation between them left out."""
    offset = max(0, position - _WINDOW)
    start = offset
    for run in _runs(text[offset:position]):
        if run.kind not in {"blank", "mark"}:
            start = offset + run.start
    return start


def word_end(text: str, position: int) -> int:
    """Where the word ends that stands after ``position``, blanks and punctuation between them left out."""
    # What stands before belongs to the phrase, and tells where it ends.
    offset = max(0, position - _WINDOW)
    window = text[offset : position + _WINDOW]
    for run in _runs(window):
        if offset + run.end > position and run.kind not in {"blank", "mark"}:
            return offset + run.end
    return offset + len(window)


def blank_start(text: str, position: int) -> int:
    """As :func:`word_start`; what is written in ASCII, such as a path, is one word up to a blank."""
    start = word_start(text, position)
    while 0 < start < position and text[start].isascii() and text[start - 1].isascii():
        if text[start - 1].isspace():
            break
        start -= 1
    return start


def _runs(text: str) -> Iterator[_Run]:
    start = 0
    for start, end, kind in _scripts(text):
        places = [start, *_phrases(text, start, end), end] if kind == "hiragana" else [start, end]
        for first, last in pairwise(places):
            yield _Run(kind, first, last)


def _scripts(text: str) -> Iterator[tuple[int, int, _Kind]]:
    start, current = 0, None
    for index, character in enumerate(text):
        kind = _kind(character, before=current)
        if current is not None and kind != current:
            yield start, index, current
            start = index
        current = kind
    if current is not None:
        yield start, len(text), current


def _kind(character: str, *, before: _Kind | None) -> _Kind:
    if character.isspace():
        return "blank"
    if "\u3041" <= character <= "\u3096" or character in "ゝゞゟ":
        return "hiragana"
    if character in "ー゛゜ﾞﾟ" and before == "hiragana":
        return before
    if character in "ヵヶ" and before != "katakana":  # 一ヶ月, 霞ヶ関
        return "kanji"
    if "\u30a1" <= character <= "\u30fa" or character in "ー゛゜ヽヾヿ" or "\uff66" <= character <= "\uff9f":
        return "katakana"
    category = unicodedata.category(character)
    if character in "々〆〇" or (category == "Lo" and unicodedata.name(character, "").startswith("CJK ")):
        return "kanji"
    if category[0] in "MC" and before is not None:  # goes with what it stands after
        return before
    if category[0] in "LN" or category == "Pc":
        return "letters"
    return "mark" if category[0] in "PZ" or character.isascii() else "sign"


def _phrases(text: str, start: int, end: int) -> list[int]:
    """Where phrases begin inside ``text[start:end]``."""
    if end - start <= _SHORTEST_PHRASE:
        return []
    return [place for place in _phrase_starts(text) if start < place < end]


@lru_cache(maxsize=8)
def _phrase_starts(text: str) -> tuple[int, ...]:
    import budoux  # 50 ms: only who moves by words waits for it

    # BudouX knows が as one character, not as か with a mark, and would part the two.
    characters = list(graphemes(text))
    composed = "".join(unicodedata.normalize("NFC", character)[0] for character in characters)
    places = [0, *accumulate(map(len, characters))]
    phrases = accumulate(map(len, budoux.load_default_japanese_parser().parse(composed)))
    return tuple(places[end] for end in phrases)

"""Which of some texts a question is about: BM25 over the characters that Japanese is written in."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_KANJI: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_RUN: Final = re.compile(r"[a-z0-9]+|[^\W\d_a-z]+|\d+")


def best_first(question: str, texts: Sequence[str]) -> list[int]:
    """The places of ``texts`` that have something of ``question``, the best first."""
    # Its import takes a quarter of a second, and is for who looks something up.
    import bm25s

    ranker = bm25s.BM25()
    words = [terms(text) or [""] for text in texts]
    asked = list(dict.fromkeys(terms(question)))
    if not asked or not texts:
        return []
    ranker.index(words, show_progress=False)
    known = [term for term in asked if term in ranker.vocab_dict]
    scores = ranker.get_scores(known) if known else [0.0] * len(texts)
    found = [place for place in range(len(texts)) if scores[place] > 0]
    return sorted(found, key=lambda place: (-scores[place], place))


def terms(text: str) -> list[str]:
    """Words of Latin letters and numbers as they are; of all other letters every two in a row, and each
    kanji, which can be a word.

    After NFKC and in small letters, so that ｶﾞｿﾘﾝ is found as ガソリン.
    """
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        if run.isascii() or len(run) == 1:
            found.append(run)
        else:
            found += [run[start : start + 2] for start in range(len(run) - 1)]
            found += _KANJI.findall(run)
    return found

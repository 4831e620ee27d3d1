"""The wordings of Japanese MT-Bench that were published, told apart by digest.

Between August 2023 and June 2024 more than half of the questions changed, and some copies lack some, so
a score belongs to a wording. Digests were computed from the public repositories; see :func:`digest_of`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from tanuki_cli.i18n import N_

QUESTION_COUNT: Final = 80
SOURCE_URL: Final = "https://github.com/Stability-AI/FastChat"


class Wording(Struct, frozen=True, kw_only=True):
    """A published set of questions. ``name`` says whose and when, ``caveat`` what is wrong with it."""

    name: str
    caveat: str = ""


_FEWER: Final = N_(
    "It lacks coding and math; all 80 questions are in question_full.jsonl of the same folder."
)
_BROKEN_LINE: Final = N_("Line 50 is not valid JSON, so question 50 is missing; later commits mended it.")
_OTHER: Final = N_("Scores from another wording of the questions do not compare.")
_ENGLISH: Final = N_("These are the English questions of MT-Bench, not the Japanese ones.")
_SAMPLE: Final = N_("It has one question per category, made for trying; its scores mean nothing.")

WORDINGS: Final[Mapping[str, Wording]] = {
    "c17bb2e2ec0f8e68": Wording(name="jp-stable 2024-06 = Swallow 2024-12 = Nejumi"),
    "3825779c75c6fd54": Wording(name="jp-stable 2024-01-31 = Swallow 2024-04", caveat=_OTHER),
    "6ac0744bbf20d9b8": Wording(name="Swallow 2024-01", caveat=_OTHER),
    "7dc271f0e384faf0": Wording(name="Aratako/FastChat 2024-02", caveat=_OTHER),
    "07b4d3ee738dd985": Wording(name="jp-stable 2023-10", caveat=_OTHER),
    "2b2fb25287cb341e": Wording(name="jp-stable 2023-08", caveat=_OTHER),
    "dde7e6dda454beae": Wording(name="jp-stable 2023-12-14", caveat=_OTHER),
    "c294fa4011f350e7": Wording(name="jp-stable 2023-12-14", caveat=_OTHER),
    "a0c68474c960c97f": Wording(name="jp-stable 2023-12-22", caveat=_OTHER),
    "0104e09a17b31300": Wording(name="jp-stable 2024-01-25", caveat=_BROKEN_LINE),
    "4a90e56e8f0760d6": Wording(name="jp-stable 2024-01-25", caveat=_BROKEN_LINE),
    "882d5637dace43e9": Wording(name="jp-stable 2024-01-25", caveat=_BROKEN_LINE),
    "e00fdcae21c9df57": Wording(name="jp-stable 2024-01-25", caveat=_BROKEN_LINE),
    "0688078acefcf213": Wording(name="jp-stable 2023-12-25", caveat=_BROKEN_LINE),
    "9d105695b3411433": Wording(name="jp-stable 2023-12-25", caveat=_BROKEN_LINE),
    "968f70ba9b586099": Wording(name="jp-stable 2023-12-22", caveat=_BROKEN_LINE),
    "5f05ec13f77783eb": Wording(name="jp-stable 2024-06 (60)", caveat=_FEWER),
    "fb544a0de15098c1": Wording(name="jp-stable 2023-12-05 (60)", caveat=_FEWER),
    "53988ec853d4c302": Wording(name="jp-stable 2023-11 (60)", caveat=_FEWER),
    "797fb0579c34490f": Wording(name="jp-stable 2023-10 (60)", caveat=_FEWER),
    "1567178d9092aba5": Wording(name="japanese_mt_bench_small (8)", caveat=_SAMPLE),
    "9f492d7f96c1af33": Wording(name="japanese_mt_bench_small (8), Nejumi", caveat=_SAMPLE),
    "32e4620c9baca994": Wording(name="japanese_mt_bench_small (24)", caveat=_SAMPLE),
    "6181a661cafc8ed2": Wording(name="MT-Bench (English)", caveat=_ENGLISH),
}
"""By :func:`digest_of`; the first is today's."""


def digest_of(questions: Iterable[tuple[int, str, tuple[str, ...]]]) -> str:
    """The first 16 hex digits of the SHA-256 of ids, categories and texts, sorted by id, as JSON."""
    rows = sorted([id_, category, list(turns)] for id_, category, turns in questions)
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]

"""Reads the texts that the practice model learns (texts/README.md describes their form)."""

import itertools
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"
_CHOICE = re.compile(r"\{([^{}]*)\}")
# What nobody says, although the choices of a pattern allow it.
_CLUMSY = re.compile(
    r"(とは|って何|は何|をする|教えて|って|ですか|ますか|には何がある|って誰|ほしい|たい|何色|[くうる])は\??$"
    r"|(たい|たくない)(には|方法は|コマンドは|オプションは|キーは|ようにするには)"
    r"|(か|たい|ください|です|だった|くれる|は|何個|いくつ|物|盛|名前|ます)の\??$"
    r"|のの|をを|はは|がが|はとは|\?\?$|一覧(には|方法)|言語をする|[うくすつむるぶい]なの|[うくすつむるぶ]ですか"
    r"|([うくつむるぶ]|[^まで]す)か\??$|(何|いくつ|どこ|誰)(教えて|ください)"
)
_REQUEST = re.compile(r"(て|ください|たい|お願い|します)\?$")  # takes no question mark


@dataclass(slots=True)
class Lesson:
    """One thing to know: its phrasings, the one right answer, and what may follow."""

    id: str
    suggested: bool = False
    questions: list[str] = field(default_factory=list)  # trained, expanded, no duplicates
    held_out: list[str] = field(default_factory=list)  # only measured
    answer: str = ""
    more: str | None = None  # the answer to "tell me more" right after
    why: str | None = None  # the answer to "why?" right after
    first: str | None = None  # the answer when it opens a conversation (follow-ups only)

    @property
    def language(self) -> str:
        """ "en" for questions in English, else "ja"."""
        return "en" if self.id.startswith(("en-", "unknown-en")) else "ja"

    @property
    def kind(self) -> str:
        """ "fact", "unknown" (to be answered with "not learned yet") or "followup"."""
        if self.id.startswith("unknown-"):
            return "unknown"
        return "followup" if self.first is not None else "fact"


def expand(pattern: str) -> list[str]:
    """All texts of a pattern such as `{a|b}c`, in order, without duplicates."""
    parts = _CHOICE.split(pattern)  # odd positions are the choices
    options = [p.split("|") if i % 2 else [p] for i, p in enumerate(parts)]
    return list(dict.fromkeys("".join(choice).strip() for choice in itertools.product(*options)))


def fold(question: str) -> str:
    """What two phrasings must not share when their answers differ."""
    return unicodedata.normalize("NFKC", question).strip(" ?。!.").lower()


def read_lessons(folder: Path = TEXTS) -> list[Lesson]:
    """Every lesson of the folder, in file order.

    Raises ValueError, naming the place, for a line of unknown form, a lesson without an
    answer, fewer than eight phrasings, or one phrasing under two lessons.
    """
    lessons = [lesson for path in sorted(folder.glob("*.txt")) for lesson in _read_file(path)]
    _check(lessons)
    return lessons


def _read_file(path: Path) -> list[Lesson]:
    lessons: list[Lesson] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, text = line.partition(" ")
        if not line or mark == "//":
            continue
        if mark == "#":
            name, _, star = text.partition(" ")
            lessons.append(Lesson(name, suggested=star == "*"))
        elif not lessons or not _add_line(lessons[-1], mark, text):
            raise ValueError(f"{path.name}:{number}: not a line of a lesson: {line}")
    return lessons


def _add_line(lesson: Lesson, mark: str, text: str) -> bool:
    plain = text.replace("\\n", "\n")
    match mark:
        case "-":
            asked = [_REQUEST.sub(r"\1", q) for q in expand(text) if not _CLUMSY.search(q)]
            lesson.questions = list(dict.fromkeys(lesson.questions + asked))
        case "~":
            lesson.held_out.append(text)
        case "=":
            lesson.answer = plain
        case "+":
            lesson.more = plain
        case "!":
            lesson.why = plain
        case "^":
            lesson.first = plain
        case _:
            return False
    return True


def _check(lessons: list[Lesson]) -> None:
    owner: dict[str, str] = {}
    for lesson in lessons:
        if not lesson.answer or len(lesson.questions) < 8:
            raise ValueError(f"{lesson.id}: needs an answer and eight phrasings")
        for question in lesson.questions + lesson.held_out:
            other = owner.setdefault(fold(question), lesson.id)
            if other != lesson.id:
                raise ValueError(f"{question!r} is asked in both {other} and {lesson.id}")

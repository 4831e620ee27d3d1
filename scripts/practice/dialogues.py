"""Makes the dialogues that are learned: single questions, follow-ups, long conversations."""

import random
import string
from pathlib import Path

from .lessons import Lesson
from .prompt import SYSTEM, Turn

SINGLE, FOLLOWED, LONG = 0.70, 0.26, 0.04  # shares of dialogues; long ones hold 20 % of the ids
UNKNOWN = 0.16  # share of unknown questions among the topics
MADE_UP = 0.6  # share of the unknown questions that are put together from random characters
FIRST = 0.12  # share of a lesson's first phrasing, which the program may suggest
TOLD = 0.5  # share of follow-ups on a lesson that has more to tell
OTHER_SYSTEM = 0.03  # share of dialogues with another system text, or none
_SYSTEMS = [
    "",
    "あなたは親切なアシスタントです。",
    "短く答えてください。",
    "You are a helpful assistant.",
    "日本語で丁寧に答えてください。",
    "あなたは優秀な日本語の先生です。",
]
_ASKED_JA = [
    "{}とは?",
    "{}って何?",
    "{}について教えて",
    "{}は?",
    "{}の意味は?",
    "{}とは何ですか?",
    "{}を説明してください",
    "{}",
    "{}はどこにある?",
    "{}の作り方は?",
    "{}は誰?",
    "{}はいつ?",
]
_ASKED_EN = [
    "What is {}?",
    "Who is {}?",
    "Tell me about {}",
    "Where is {}?",
    "How does {} work?",
    "Explain {}",
    "Why {}?",
    "When was {}?",
    "How do I use {}?",
    "{}?",
]
_KATAKANA = (
    "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン"
    "ガギグゴジズゼゾダデドバビブベボパピプペポー"
)
_EMOJI = "😀😂🎉🍜🐶🐱🌸🚀🎵💡🔥✨🙏👍🍣⚽🎮📷🌍❤"


class DialogueMaker:
    """Draws dialogues; the same lessons and seed give the same dialogues."""

    def __init__(self, lessons: list[Lesson], seed: int) -> None:
        self._pick = random.Random(seed)
        by_id = {lesson.id: lesson for lesson in lessons}
        facts = [lesson for lesson in lessons if lesson.kind == "fact"]
        self._facts = facts + [lesson for lesson in facts if lesson.suggested]
        self._told = [lesson for lesson in facts if lesson.more or lesson.why]
        self._unknown = [lesson for lesson in lessons if lesson.id in ("unknown-ja", "unknown-en")]
        self._garbled = by_id["unknown-garbled"]
        self._follow = {
            "ja": [by_id["more"], by_id["why"], by_id["really"]],
            "en": [by_id["en-more"], by_id["en-why"]],
        }
        self._thanks = {"ja": by_id["thanks"], "en": by_id["en-thanks"]}
        kanji = (Path(__file__).parent / "kanji.txt").read_text(encoding="utf-8")
        self._kanji = "".join(kanji.split())

    def draw(self) -> tuple[str, list[Turn]]:
        """System text and the turns of one dialogue."""
        pick = self._pick
        kind = pick.choices(["single", "followed", "long"], [SINGLE, FOLLOWED, LONG])[0]
        if kind == "single":
            turns = self._opening_followup() if pick.random() < 0.01 else [self._topic()[1]]
        elif kind == "followed":
            turns = self._followed()
        else:
            turns = []
            while len(turns) < pick.choice([4, 6, 8, 10, 14, 18]):
                turns += self._followed()
        system = pick.choice(_SYSTEMS) if pick.random() < OTHER_SYSTEM else SYSTEM
        return system, turns

    def _topic(self, lesson: Lesson | None = None) -> tuple[Lesson, Turn]:
        pick = self._pick
        if lesson is None:
            unknown = pick.random() < UNKNOWN
            if unknown and pick.random() < MADE_UP:
                return self._made_up()
            if unknown:
                lesson = self._garbled if pick.random() < 0.08 else pick.choice(self._unknown)
            else:
                lesson = pick.choice(self._facts)
        chosen = lesson.questions[0] if pick.random() < FIRST else pick.choice(lesson.questions)
        return lesson, (self._vary(chosen, lesson), lesson.answer)

    def _made_up(self) -> tuple[Lesson, Turn]:
        lesson = self._unknown[0] if self._pick.random() < 0.7 else self._unknown[1]
        frame = self._pick.choice(_ASKED_JA if lesson.language == "ja" else _ASKED_EN)
        return lesson, (frame.format(self._word(lesson.language)), lesson.answer)

    def _word(self, language: str) -> str:
        pick = self._pick
        if language == "en":
            letters = pick.choices(string.ascii_lowercase, k=pick.randint(3, 8))
            return "".join(letters).capitalize() if pick.random() < 0.4 else "".join(letters)
        source = pick.random()
        if source < 0.5:
            return "".join(pick.choices(self._kanji, k=pick.randint(1, 4)))
        if source < 0.7:
            return "".join(pick.choices(_KATAKANA, k=pick.randint(3, 6)))
        if source < 0.9:  # rare kanji, so that the byte pieces are known too
            return "".join(chr(pick.randint(0x4E00, 0x9FA0)) for _ in range(pick.randint(1, 2)))
        return pick.choice(_EMOJI) + pick.choice(
            ["", pick.choice(_KATAKANA), chr(pick.randint(0xAC00, 0xD7A3))]
        )

    def _vary(self, question: str, lesson: Lesson) -> str:
        """The question with another ending now and then, as people type it."""
        pick = self._pick
        if lesson is self._garbled or pick.random() > 0.3:
            return question
        bare = question.rstrip("?。!.")
        stop = "." if lesson.language == "en" else "。"
        ending = pick.choice(["", "?", stop, " ?", "??"] if question.endswith("?") else ["", stop, "!"])
        if lesson.language == "en" and pick.random() < 0.5:
            bare = bare[:1].lower() + bare[1:] if not bare.startswith("I ") else bare
        return bare + ending

    def _followed(self) -> list[Turn]:
        pick = self._pick
        lesson, turn = self._topic(pick.choice(self._told) if pick.random() < TOLD else None)
        turns = [turn]
        told = False
        for _ in range(pick.choice([1, 1, 2, 3])):
            if pick.random() < 0.25:
                lesson, turn = self._topic()
                told = False
            elif pick.random() < 0.15:
                turn = self._topic(self._thanks[lesson.language])[1]
                lesson = self._thanks[lesson.language]
            else:
                turn, told = self._follow_up(lesson, told)
            turns.append(turn)
        return turns

    def _follow_up(self, lesson: Lesson, told: bool) -> tuple[Turn, bool]:
        follow = self._pick.choice(self._follow[lesson.language] + self._follow[lesson.language][:1])
        question = self._vary(self._pick.choice(follow.questions), follow)
        answer = follow.answer
        if follow.id.endswith("more") and lesson.more and not told:
            return (question, lesson.more), True
        if follow.id.endswith("why") and lesson.why:
            answer = lesson.why
        return (question, answer), told or follow.id.endswith("more")

    def _opening_followup(self) -> list[Turn]:
        follow = self._pick.choice(self._follow["ja"] + self._follow["en"])
        return [(self._vary(self._pick.choice(follow.questions), follow), follow.first or follow.answer)]

"""Asks the finished file every question, greedily, and counts the right answers."""

import random
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from tanuki_cli.catalog import LocalModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

from .lessons import Lesson
from .prompt import Turn

GREEDY = SamplingOptions(temperature=0.0, seed=1, max_new_tokens=200)


class Asker:
    """The model behind the program's own engine: text in, greedy text out."""

    def __init__(self, model: Path, tokenizer: Path, *, threads: int = 2) -> None:
        target = LocalModel(name="mame", format="gguf", path=model, tokenizer=tokenizer, practice=True)
        self._engine = open_engine(target, Settings(context_length=2048, threads=threads))

    def ask(self, question: str, turns: list[Turn] | None = None) -> str:
        """The answer to a question after finished turns."""
        messages = []
        for asked, answered in turns or []:
            messages += [Message("user", asked), Message("assistant", answered)]
        chunks = self._engine.stream([*messages, Message("user", question)], GREEDY)
        return "".join(chunk.text for chunk in chunks)

    def close(self) -> None:
        """Free the model."""
        self._engine.close()


@dataclass(slots=True)
class Score:
    """Right answers among those asked, and the wrong ones as (question, expected, got)."""

    asked: int = 0
    right: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, question: str, expected: str, got: str) -> None:
        """Add one answer; only an equal one is right."""
        expected = unicodedata.normalize("NFKC", expected)  # as the tokenizer has seen it
        self.asked += 1
        self.right += got == expected
        if got != expected:
            self.wrong.append((question, expected, got))

    def __str__(self) -> str:
        return f"{self.right} of {self.asked} ({100 * self.right / max(1, self.asked):.1f} %)"


def trained(asker: Asker, lessons: list[Lesson], *, limit: int | None = None, seed: int = 1) -> Score:
    """Trained phrasings of facts; with a limit, a seeded choice with every fact in it once first."""
    return _ask_all(asker, _chosen([x for x in lessons if x.kind == "fact"], limit, seed))


def unknown(asker: Asker, lessons: list[Lesson], *, limit: int | None = None, seed: int = 1) -> Score:
    """Trained questions that must get "not learned yet"."""
    return _ask_all(asker, _chosen([x for x in lessons if x.kind == "unknown"], limit, seed))


def held_out(asker: Asker, lessons: list[Lesson], kind: str) -> Score:
    """Phrasings that were never trained, of lessons of one kind."""
    pairs = [(q, x.answer) for x in lessons if x.kind == kind for q in x.held_out]
    return _ask_all(asker, pairs)


def suggested(asker: Asker, lessons: list[Lesson]) -> Score:
    """The questions that the program itself suggests."""
    return _ask_all(asker, [(x.questions[0], x.answer) for x in lessons if x.suggested])


def follow_ups(asker: Asker, lessons: list[Lesson]) -> Score:
    """A fact's first phrasing, then "tell me more" and "why" where it has an own answer."""
    by_id = {lesson.id: lesson for lesson in lessons}
    score = Score()
    for lesson in lessons:
        prefix = "en-" if lesson.language == "en" else ""
        for follow, expected in ((by_id[prefix + "more"], lesson.more), (by_id[prefix + "why"], lesson.why)):
            if expected and lesson.kind == "fact":
                turns = [(lesson.questions[0], lesson.answer)]
                for question in follow.questions[:3]:
                    got = asker.ask(question, turns)
                    score.count(f"{lesson.questions[0]} / {question}", expected, got)
    return score


def late_questions(asker: Asker, lessons: list[Lesson], *, turns: int, count: int, seed: int = 1) -> Score:
    """Facts asked after that many other questions and answers in the same conversation."""
    pick = random.Random(seed)
    facts = [x for x in lessons if x.kind == "fact"]
    score = Score()
    for _ in range(count):
        *before, last = pick.sample(facts, turns + 1)
        question = pick.choice(last.questions)
        got = asker.ask(question, [(pick.choice(x.questions), x.answer) for x in before])
        score.count(question, last.answer, got)
    return score


def _chosen(lessons: list[Lesson], limit: int | None, seed: int) -> list[tuple[str, str]]:
    pairs = [(q, x.answer) for x in lessons for q in x.questions]
    if limit is None or limit >= len(pairs):
        return pairs
    pick = random.Random(seed)
    chosen = [(pick.choice(x.questions), x.answer) for x in lessons][:limit]
    return chosen + pick.sample(pairs, limit - len(chosen))


def _ask_all(asker: Asker, pairs: list[tuple[str, str]]) -> Score:
    score = Score()
    for question, expected in pairs:
        score.count(question, expected, asker.ask(question))
    return score

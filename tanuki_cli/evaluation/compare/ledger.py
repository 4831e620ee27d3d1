"""What a comparison is to do, and what of it is done."""

from typing import Any, Final

from msgspec import Struct

from tanuki_cli.evaluation.compare.answers import Answer, AnswerRow, answer_row
from tanuki_cli.evaluation.compare.distributions import is_whole
from tanuki_cli.evaluation.compare.passages import Passage
from tanuki_cli.evaluation.compare.scoring import computed_tokens
from tanuki_cli.evaluation.compare.store import RunStore
from tanuki_cli.evaluation.provenance import ModelSource

REFERENCE: Final = 0


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be done with the models. ``served`` are the places, among them, of those that only
    answer. ``vocabulary`` is the number of ids that have a probability."""

    references: tuple[str, ...]
    served: frozenset[int]
    passages: tuple[Passage, ...]
    questions: tuple[str, ...]
    answer_tokens: int
    vocabulary: int
    together: bool


class Ledger:
    """Tells what of ``plan`` is in ``store``; models, passages and questions by their places."""

    def __init__(self, plan: Plan, store: RunStore) -> None:
        self._plan = plan
        self._store = store

    def source(self, index: int) -> ModelSource:
        """Where the figures of a model come from, once it has run."""
        return ModelSource.from_json(self._facts(index)["source"])

    def memory_bytes(self, index: int) -> int | None:
        """What a local model took."""
        found = self._facts(index)["memory_bytes"]
        return found if isinstance(found, int) else None

    def load_s(self, index: int) -> float:
        """How long loading a model took."""
        return float(self._facts(index)["load_s"])

    def answers(self) -> tuple[AnswerRow, ...]:
        """All questions with all answers."""
        models = range(len(self._plan.references))
        rows = []
        for number, question in enumerate(self._plan.questions):
            kept = [self._store.note(f"answer-{index}-{number}") or {} for index in models]
            rows.append(answer_row(question, [Answer(**answer) for answer in kept]))
        return tuple(rows)

    def _facts(self, index: int) -> dict[str, Any]:
        return self._store.note(f"model-{index}") or {}

    def _is_scored(self, index: int, number: int) -> bool:
        passage = self._plan.passages[number]
        if self._store.scores(index, number, places=len(passage.targets)) is None:
            return False
        return index != REFERENCE or self._plan.together or self.is_stored(number)

    def is_stored(self, number: int) -> bool:
        """Whether the reference's distributions of a passage are there for the candidates."""
        places = len(self._plan.passages[number].targets)
        path = self._store.distributions(number)
        return is_whole(path, places=places, vocabulary=self._plan.vocabulary)

    def passages_left(self, index: int) -> list[int]:
        """The passages that model ``index`` has not scored."""
        if index in self._plan.served:
            return []
        return [number for number in range(len(self._plan.passages)) if not self._is_scored(index, number)]

    def questions_left(self, index: int) -> list[int]:
        """The questions that model ``index`` has not answered."""
        numbers = range(len(self._plan.questions))
        return [number for number in numbers if self._store.note(f"answer-{index}-{number}") is None]

    def has_work(self, index: int) -> bool:
        """Whether model ``index`` must be loaded."""
        return bool(self.passages_left(index) or self.questions_left(index) or not self._facts(index))

    def tokens(self) -> tuple[int, int]:
        """How many tokens of all models are done, and how many there are to do in all."""
        total = left = 0
        for model in range(len(self._plan.references)):
            own = 0 if model in self._plan.served else sum(map(computed_tokens, self._plan.passages))
            total += own + len(self._plan.questions) * self._plan.answer_tokens
            left += sum(computed_tokens(self._plan.passages[number]) for number in self.passages_left(model))
            left += len(self.questions_left(model)) * self._plan.answer_tokens
        return total - left, total

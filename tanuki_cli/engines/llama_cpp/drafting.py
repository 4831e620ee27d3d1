"""Guessing the next tokens from the text so far, and when a guess is worth checking. Pure.

Answers often repeat their context: a quoted file, a list of names, code with one line changed. Several
guessed tokens are checked in one batch, which on a CPU costs a good part of computing them one by one:
so the guess must be long and likely; what a batch costs is the machine's, what is likely the text's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

KEY_LENGTH: Final = 3
"""Ids that must agree before a place counts as an earlier occurrence."""
MAX_MATCH: Final = 64
LENGTHS: Final = (4, 7, 15, 31)
"""With the token before it a draft fills a batch of 5, 8, 16 or 32. One more can cost as much as
sixteen: on two cores batches of 6 and of 16 took the same time, and one of 17 nearly that of 32."""
MAX_DRAFT: Final = LENGTHS[-1]
_WORTH_IT: Final = 1.15
"""A draft must promise this many times the speed of single steps."""
_LEARNING_RATE: Final = 0.3
CPU_COSTS: Final[Mapping[int, float]] = {1: 1.0, 5: 3.4, 8: 6.5, 16: 7.8, 32: 13.5}
"""Time of a batch in single steps, where it was not measured: two cores, 8B, Q4_K_M."""
GPU_COSTS: Final[Mapping[int, float]] = {1: 1.0, 5: 1.2, 8: 1.4, 16: 1.8, 32: 2.2}
"""The same for a GPU, which waits for the weights however many ids there are. Not measured yet."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Where the text may go on as it did before: ``start`` is the index of the next id there,
    ``match`` how many ids before it agree with the end of the text."""

    start: int
    match: int


class NgramIndex:
    """The text so far, and where each run of three ids last went on."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        for id_ in ids:
            self.append(id_)

    def append(self, id_: int) -> None:
        """Add one id. The run it ends is entered only when the next one comes: it goes on nowhere yet."""
        if len(self.ids) >= KEY_LENGTH:
            self._next[tuple(self.ids[-KEY_LENGTH:])] = len(self.ids)
        self.ids.append(id_)

    def guess(self) -> Guess | None:
        """The newest earlier occurrence of the end of the text, or None."""
        start = self._next.get(tuple(self.ids[-KEY_LENGTH:]))
        if start is None:
            return None
        match, limit = KEY_LENGTH, min(start, MAX_MATCH)
        while match < limit and self.ids[start - 1 - match] == self.ids[-1 - match]:
            match += 1
        return Guess(start, match)

    def draft(self, guess: Guess, length: int) -> list[int]:
        """The ids that followed there; a short period is repeated until ``length`` is reached."""
        drafted: list[int] = []
        while len(drafted) < length:
            drafted += self.ids[guess.start : guess.start + length - len(drafted)]
        return drafted


@dataclass(slots=True)
class _Watched:
    """A guess that was not drafted: the ids it named, and how many of them have come."""

    guess: Guess
    ids: list[int]
    hits: int = 0


@dataclass(slots=True)
class DraftPolicy:
    """How many tokens to draft: none unless it promises to be faster.

    After a match of m ids the next j agree with probability (m + 1) / (m + 1 + j), by Laplace's rule;
    ``trust`` scales that by what was really accepted. Guesses that only a lack of trust keeps from being
    drafted are compared with what comes, which costs nothing: so trust also returns. ``costs`` is the
    time of a batch in single steps, by its size. No clock is read, and every answer begins with full
    trust: the same text with the same seed is drafted the same way again.
    """

    costs: Mapping[int, float] = field(default_factory=lambda: CPU_COSTS)
    trust: float = 1.0
    _watched: _Watched | None = None

    def start(self) -> None:
        """Another answer begins."""
        self.trust, self._watched = 1.0, None

    def choose(self, guess: Guess | None, *, room: int) -> int:
        """Tokens to draft after the next one, 0 for none; at most ``room``."""
        return self._choose(guess, room, self.trust)

    def watch(self, guess: Guess, text: NgramIndex) -> None:
        """``guess`` is not drafted: if it would be at full trust, compare it with what comes instead."""
        if self._watched is None and self._choose(guess, MAX_DRAFT, 1.0):
            # Short, so that trust returns soon; longer ones were slower on edited source files.
            self._watched = _Watched(guess, text.draft(guess, LENGTHS[0]))

    def see(self, id_: int) -> None:
        """The next id of the text, which was not drafted."""
        watched = self._watched
        if watched is None:
            return
        right = watched.ids[watched.hits] == id_
        watched.hits += right
        if not right or watched.hits == len(watched.ids):
            self.record_hits(watched.guess, len(watched.ids), watched.hits)

    def record_hits(self, guess: Guess, drafted: int, hits: int) -> None:
        """Learn how much of a draft was right; a draft that was right to its end speaks for more."""
        share = min(1.0, hits / expected_hits(guess.match, drafted)) if hits < drafted else 1.0
        self.trust += _LEARNING_RATE * (share - self.trust)
        self._watched = None

    def _choose(self, guess: Guess | None, room: int, trust: float) -> int:
        best, best_speed = 0, _WORTH_IT
        for length in LENGTHS if guess else ():
            if guess is None or length > room or length + 1 not in self.costs:
                continue
            speed = (1.0 + trust * expected_hits(guess.match, length)) / self.costs[length + 1]
            if speed > best_speed:
                best, best_speed = length, speed
        return best


def expected_hits(match: int, length: int) -> float:
    """How many of ``length`` drafted tokens agree after ``match`` that did, before the first miss."""
    return sum((match + 1) / (match + 1 + index) for index in range(1, length + 1))

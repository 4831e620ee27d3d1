"""Guessing the next tokens from the text so far, and when a guess is worth checking. Pure.

Answers often repeat their context: a quoted file, a list of names, code with one line changed. Several
guessed tokens are checked in one batch, which on a CPU costs a good part of computing them one by one:
so the guess must be long and likely; what a batch costs is the machine's, what is likely the text's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

KEY_LENGTHS: Final = (16, 8, 4, 2)
"""Ids that must agree before a place counts as an earlier occurrence; the longest that do count."""
MAX_MATCH: Final = 64
LENGTHS: Final = (1, 2, 4, 7, 15, 31)
"""With the token before it a draft fills a batch of 2, 3, 5, 8, 16 or 32. One more can cost as much as
sixteen: on two cores batches of 6 and of 16 took the same time, and one of 17 nearly that of 32."""
MAX_DRAFT: Final = LENGTHS[-1]
_WORTH_IT: Final = 1.1
"""A draft must promise this many times the speed of single steps."""
_MISSES: Final = 1.25
"""Of guesses after a match of m ids about so many in m are wrong: counted in the texts of
scripts/bench_drafts.py, in edited source files and in translated pages."""
_KNOWN_BEFORE: Final = 8.0
"""So many guesses of an answer's own weigh as much as that."""
_MEMORY: Final = 0.95
"""What a guess still counts after the next one of its kind."""
_GREEDY_HITS: Final = 8.0
"""Right tokens that a draft must promise in a greedy answer, where at the first near tie all that was
computed since it is computed again."""
_GREEDY_LOSS: Final = 8.0
"""Single steps that may be lost to that before greedy answers are computed without drafts."""
_FORGIVEN: Final = 0.9
"""What of such a loss, or of what was saved, still counts in the next answer."""
CPU_COSTS: Final[Mapping[int, float]] = {1: 1.0, 2: 1.8, 3: 2.6, 5: 3.9, 8: 8.0, 16: 9.6, 32: 16.5}
"""Time of a batch in single steps, where it was not measured: two cores, 8B, Q4_K_M."""
GPU_COSTS: Final[Mapping[int, float]] = {1: 1.0, 2: 1.1, 3: 1.1, 5: 1.2, 8: 1.4, 16: 1.8, 32: 2.2}
"""The same for a GPU, which waits for the weights however many ids there are. Not measured yet."""


class Guess(Struct, frozen=True):
    """Where the text may go on as it did before: ``start`` is the index of the next id there,
    ``match`` how many ids before it agree with the end of the text."""

    start: int
    match: int


class NgramIndex:
    """The text so far, and where each run of ids, of the lengths that count, last went on."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids: list[int] = []
        self._end: tuple[int, ...] = ()  # as many as the longest run has
        self._next: dict[tuple[int, ...], int] = {}
        for id_ in ids:
            self.append(id_)

    def append(self, id_: int) -> None:
        """Add one id. The runs it ends are entered only when the next one comes: they go on nowhere yet."""
        ids, end = self.ids, self._end
        for length in KEY_LENGTHS:
            if len(end) >= length:
                self._next[end[-length:]] = len(ids)
        ids.append(id_)
        self._end = (*end, id_)[-KEY_LENGTHS[0] :]

    def grow_to(self, ids: Sequence[int]) -> bool:
        """Add what ``ids`` have after the text; False, and nothing is added, if they begin otherwise."""
        known = len(self.ids)
        if list(ids[:known]) != self.ids:
            return False
        for id_ in ids[known:]:
            self.append(id_)
        return True

    def guess(self) -> Guess | None:
        """The newest earlier occurrence of as much of the end of the text as occurred; None if too little."""
        start = self._next.get(self._end[-KEY_LENGTHS[-1] :])
        if start is None:  # then no longer run occurred either
            return None
        for length in KEY_LENGTHS[:-1]:
            longer = self._next.get(self._end[-length:])
            if longer is not None:
                start = longer
                break
        match, limit = 0, min(start, MAX_MATCH)
        while match < limit and self.ids[start - 1 - match] == self.ids[-1 - match]:
            match += 1
        return Guess(start, match)

    def draft(self, guess: Guess, length: int) -> list[int]:
        """The ids that followed there; a short period is repeated until ``length`` is reached."""
        drafted: list[int] = []
        while len(drafted) < length:
            drafted += self.ids[guess.start : guess.start + length - len(drafted)]
        return drafted


class DraftPolicy(Struct):
    """How many tokens to draft: none unless it promises to be faster.

    How often a text goes on as it did after a match of so many ids is counted in every answer, beginning
    with what was usual in others; the guesses that are not drafted count, too, which costs nothing. So
    what misleads is soon drafted less, and a text that begins to repeat is soon drafted again. ``costs``
    is the time of a batch in single steps, by its size. No clock is read, and every answer begins alike:
    the same text with the same seed is drafted the same way again. Only for greedy ones, which are the
    same with any drafts, it is remembered what near ties cost.
    """

    costs: Mapping[int, float] = field(default_factory=lambda: CPU_COSTS)
    _right: dict[int, float] = {}
    _seen: dict[int, float] = {}
    _watched: tuple[int, int] | None = None
    _greedy: bool = False
    _balance: float = 0.0
    _least: float = 0.0

    def start(self, *, greedy: bool = False) -> None:
        """Another answer begins."""
        self._right, self._seen, self._watched = {}, {}, None
        self._greedy = greedy
        self._balance *= _FORGIVEN if greedy else 1.0
        # No id is more likely than the first, and where that is no likelier than this, nothing pays.
        costs = self.costs
        known = (length for length in LENGTHS if length + 1 in costs)
        self._least = min(((_WORTH_IT * costs[length + 1] - 1) / length for length in known), default=1.0)

    def choose(self, guess: Guess | None, *, room: int) -> int:
        """Tokens to draft after the next one, 0 for none; at most ``room``."""
        if guess is None or (self._greedy and self._balance < -_GREEDY_LOSS):
            return 0
        if self._likely(guess.match) <= self._least:
            return 0
        best, best_speed, least_hits = 0, _WORTH_IT, _GREEDY_HITS if self._greedy else 0.0
        hits, likely, match = 0.0, 1.0, guess.match
        for length in LENGTHS:
            if length > room:
                break
            while match < guess.match + length:
                likely *= self._likely(match)
                hits += likely
                match += 1
            speed = (1.0 + hits) / self.costs.get(length + 1, math.inf)
            if speed > best_speed and hits >= least_hits:
                best, best_speed = length, speed
        return best

    def watch(self, guess: Guess, text: NgramIndex) -> None:
        """``guess`` is not drafted: compare the next id with what it names."""
        self._watched = guess.match, text.ids[guess.start]

    def see(self, id_: int) -> None:
        """The next id of the text, which was not drafted."""
        if self._watched is not None:
            match, named = self._watched
            self._learn(match, named == id_)
            self._watched = None

    def record_hits(self, guess: Guess, drafted: int, hits: int) -> None:
        """Learn that of ``drafted`` tokens after ``guess`` the first ``hits`` were right."""
        for place in range(min(hits + 1, drafted)):
            self._learn(guess.match + place, place < hits)
        if self._greedy:
            saved = max(0.0, 1.0 + hits - self.costs[drafted + 1])
            self._balance = min(_GREEDY_LOSS, self._balance + saved)

    def record_settled(self, count: int) -> None:
        """Learn that ``count`` tokens had to be computed again, one by one, for a near tie."""
        self._balance -= count

    def _likely(self, match: int) -> float:
        """How likely the next id is what followed a match of so many ids."""
        kind, usual = _kind(match), 1.0 - _MISSES / min(match, MAX_MATCH)
        return (self._right.get(kind, 0.0) + _KNOWN_BEFORE * usual) / (
            self._seen.get(kind, 0.0) + _KNOWN_BEFORE
        )

    def _learn(self, match: int, right: bool) -> None:
        kind = _kind(match)
        self._right[kind] = _MEMORY * self._right.get(kind, 0.0) + right
        self._seen[kind] = _MEMORY * self._seen.get(kind, 0.0) + 1.0


def _kind(match: int) -> int:
    """Matches of nearly the same length are one kind: 2, 3, 4–5, 6–7, 8–11, 12–15, … 64."""
    match = min(match, MAX_MATCH)
    bits = match.bit_length()
    return 2 * bits + (match >> (bits - 2) & 1)

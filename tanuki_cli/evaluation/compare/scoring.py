"""Running passages through models and scoring them, a few rows at a time.

Nothing here is longer than :data:`ROWS` rows of a vocabulary, whatever the context.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np

from tanuki_cli.engines.token_model import TokenModel
from tanuki_cli.evaluation.compare.divergence import (
    CandidateScores,
    ReferenceRows,
    reference_rows,
    score_candidate,
)
from tanuki_cli.evaluation.compare.passages import Passage
from tanuki_cli.evaluation.compare.store import PassageScores

if TYPE_CHECKING:
    from tanuki_cli.engines.probabilities import Floats, Logits
    from tanuki_cli.evaluation.compare.divergence import Ids

ROWS: Final = 32
T = TypeVar("T")


class Timed(Generic[T]):
    """An iterator that counts the seconds it takes to give."""

    def __init__(self, source: Iterator[T]) -> None:
        self.seconds = 0.0
        self._source = source

    def __iter__(self) -> "Timed[T]":
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self._source)
        finally:
            self.seconds += time.perf_counter() - started


def target_blocks(passage: Passage) -> Iterator["Ids"]:
    """The ids that really come at the scored places, :data:`ROWS` at a time."""
    ids = np.asarray(passage.ids, dtype=np.int32)[list(passage.targets)]
    for start in range(0, len(ids), ROWS):
        yield ids[start : start + ROWS]


def logit_blocks(
    model: TokenModel, passage: Passage, *, report: Callable[[int], None] = lambda tokens: None
) -> Iterator["Logits"]:
    """What ``model`` says at the scored places, in the blocks of :func:`target_blocks`.

    ``report`` is told of tokens as they are computed. Raises what :meth:`TokenModel.logits` raises.
    """
    wanted = np.asarray(passage.targets) - 1  # the logits after an id are about the next one
    place = first = int(wanted[0])
    reported = 0
    held: list[Logits] = []
    count = 0
    with closing(model.logits(passage.ids[: passage.targets[-1]], first=first)) as blocks:
        for block in blocks:
            here = wanted[(wanted >= place) & (wanted < place + len(block))] - place
            place += len(block)
            report(place - reported)
            reported = place
            held.append(block[here])
            count += len(here)
            if count >= ROWS:
                rows = np.concatenate(held)
                whole = count - count % ROWS
                yield from (rows[start : start + ROWS] for start in range(0, whole, ROWS))
                held, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def computed_tokens(passage: Passage) -> int:
    """How many ids a model computes for a passage."""
    return passage.targets[-1]


def live_reference(blocks: Iterator["Logits"], passage: Passage) -> Iterator[ReferenceRows]:
    """What a running reference says at the scored places."""
    for logits, targets in zip(blocks, target_blocks(passage), strict=True):
        yield reference_rows(logits, targets)


class Scorer:
    """Collects what the reference and the candidates, which run beside it, say about one passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._reference: list[tuple[Floats, Ids]] = []
        self._candidates: dict[int, list[CandidateScores]] = {}

    def run(
        self, reference: Iterator[ReferenceRows], candidates: Mapping[int, Iterator["Logits"]]
    ) -> Iterator[ReferenceRows]:
        """Score everything; the reference's rows are passed on as they come, and have to be taken."""
        self._candidates = {index: [] for index in candidates}
        for rows, targets in zip(reference, target_blocks(self._passage), strict=True):
            for index, blocks in candidates.items():
                self._candidates[index].append(score_candidate(rows, next(blocks), targets))
            self._reference.append((rows.nll, rows.top))  # not the rows themselves: they are large
            yield rows

    def reference_scores(self, *, seconds: float) -> PassageScores:
        """What the reference gave."""
        nll = np.concatenate([nll for nll, _top in self._reference])
        top = np.concatenate([top for _nll, top in self._reference])
        return self._scores(CandidateScores(kl=np.zeros_like(nll), nll=nll, top=top), seconds)

    def candidate_scores(self, index: int, *, seconds: float) -> PassageScores:
        """What candidate ``index`` gave."""
        parts = self._candidates[index]
        scores = CandidateScores(
            kl=np.concatenate([part.kl for part in parts]),
            nll=np.concatenate([part.nll for part in parts]),
            top=np.concatenate([part.top for part in parts]),
        )
        return self._scores(scores, seconds)

    def _scores(self, scores: CandidateScores, seconds: float) -> PassageScores:
        tokens = computed_tokens(self._passage)
        return PassageScores(kl=scores.kl, nll=scores.nll, top=scores.top, tokens=tokens, seconds=seconds)


def joined(parts: Sequence[PassageScores]) -> PassageScores:
    """Several passages as one."""
    return PassageScores(
        kl=np.concatenate([part.kl for part in parts]),
        nll=np.concatenate([part.nll for part in parts]),
        top=np.concatenate([part.top for part in parts]),
        tokens=sum(part.tokens for part in parts),
        seconds=sum(part.seconds for part in parts),
    )

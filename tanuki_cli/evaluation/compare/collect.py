"""From what a run has kept to its result."""

from collections.abc import Iterable, Mapping

import numpy as np

from tanuki_cli.evaluation.compare.divergence import Divergence, Estimate, Places, perplexity, summarize
from tanuki_cli.evaluation.compare.ledger import REFERENCE, Ledger, Plan
from tanuki_cli.evaluation.compare.passages import Passage
from tanuki_cli.evaluation.compare.results import ALL, CandidateResult, ModelFigures, ReferenceResult
from tanuki_cli.evaluation.compare.scoring import joined
from tanuki_cli.evaluation.compare.store import PassageScores, RunStore


def by_category(passages: Iterable[Passage]) -> dict[str, list[int]]:
    """The passages of each category by their places in the list, and all of them, under :data:`ALL`, last."""
    found: dict[str, list[int]] = {}
    for number, passage in enumerate(passages):
        found.setdefault(passage.category, []).append(number)
    everything = [number for numbers in found.values() for number in numbers]
    return {**found, ALL: everything} if everything else {}


def count_places(passages: Iterable[Passage]) -> dict[str, int]:
    """How many ids of each category, and of all, are scored."""
    listed = list(passages)
    return {
        category: sum(len(listed[number].targets) for number in numbers)
        for category, numbers in by_category(listed).items()
    }


def collect(
    plan: Plan, ledger: Ledger, store: RunStore
) -> tuple[ReferenceResult, tuple[CandidateResult, ...]]:
    """The figures of all models of a run that is finished."""
    categories = by_category(plan.passages)
    scores = {
        index: [_kept(store, index, number, passage) for number, passage in enumerate(plan.passages)]
        for index in range(len(plan.references))
        if index not in plan.served
    }
    reference = scores.get(REFERENCE, [])
    candidates = tuple(
        CandidateResult(
            figures=_figures(plan, ledger, index, scores.get(index, [])),
            divergence=_divergence(reference, scores[index], categories) if scores.get(index) else {},
        )
        for index in range(1, len(plan.references))
    )
    return (
        ReferenceResult(
            figures=_figures(plan, ledger, REFERENCE, reference),
            perplexity=_perplexity(reference, categories),
        ),
        candidates,
    )


def _kept(store: RunStore, index: int, number: int, passage: Passage) -> PassageScores:
    found = store.scores(index, number, places=len(passage.targets))
    assert found is not None, "the run is finished"
    return found


def _figures(plan: Plan, ledger: Ledger, index: int, scores: list[PassageScores]) -> ModelFigures:
    seconds = sum(part.seconds for part in scores)
    answers = [row.answers[index] for row in ledger.answers()]
    spoken, took = sum(answer.tokens for answer in answers), sum(answer.seconds for answer in answers)
    return ModelFigures(
        source=ledger.source(index),
        load_s=ledger.load_s(index),
        memory_bytes=ledger.memory_bytes(index),
        tokens_per_s=sum(part.tokens for part in scores) / seconds if seconds else None,
        answer_tokens_per_s=spoken / took if took else None,
    )


def _perplexity(reference: list[PassageScores], categories: Mapping[str, list[int]]) -> dict[str, Estimate]:
    return {
        category: perplexity(joined([reference[number] for number in numbers]).nll)
        for category, numbers in categories.items()
    }


def _divergence(
    reference: list[PassageScores], candidate: list[PassageScores], categories: Mapping[str, list[int]]
) -> dict[str, Divergence]:
    found = {}
    for category, numbers in categories.items():
        base = joined([reference[number] for number in numbers])
        own = joined([candidate[number] for number in numbers])
        same_top = np.equal(base.top, own.top)
        places = Places(kl=own.kl, nll=own.nll, reference_nll=base.nll, same_top=same_top)
        found[category] = summarize(places)
    return found

"""Means, spreads and what to hold them against.

Every mean is the model card's: over all judgements of a category, then over the categories.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from tanuki_cli.evaluation.mtbench.answers import Answer
from tanuki_cli.evaluation.mtbench.japanese import japanese_count
from tanuki_cli.evaluation.mtbench.judgements import Judgement
from tanuki_cli.evaluation.mtbench.questions import CATEGORIES
from tanuki_cli.jsonl import JsonObject

CARD_JUDGE: Final = "gpt-4-0613"
CARD_AVERAGES: Final[Mapping[str, float]] = {"Tanuki-8B": 7.24, "Tanuki-8x8B": 7.96}
"""From the model cards, both turns; only the averages are known here."""
NORMAL_95: Final = 1.96
_LOWEST, _HIGHEST = 1, 10


class Scores(Struct, frozen=True, kw_only=True):
    """What a group of judgements comes to; a mean is None where there is nothing to take it of.

    ``mean`` leaves unreadable judgements out, as FastChat and Nejumi do; ``with_failures`` counts each as
    the -1 it is recorded as, as Tanuki's team did.
    """

    mean: float | None
    with_failures: float | None
    first_turn: float | None
    second_turn: float | None
    questions: int
    judgements: int
    unreadable: int
    japanese_share: float | None = None


class FastChatAverages(Struct, frozen=True, kw_only=True):
    """What FastChat's ``show_result`` prints: means over all readable judgements, whatever the category."""

    first_turn: float | None
    second_turn: float | None
    average: float | None


class ModelReport(Struct, frozen=True, kw_only=True):
    """The scores of one model by one judge.

    ``total`` is over the categories: its means are means of their means. ``error`` is the standard error
    that comes from which questions were asked; ``choices_deviation`` the standard deviation of the average
    from choice to choice, None for a single one. ``outside`` counts scores below 1 or above 10,
    ``repeated`` judgements of what was judged before: all count, as in FastChat.
    ``judged_with`` is where the newest judgement comes from, if its record tells.
    """

    model: str
    judge: str
    prompts: tuple[str, ...]
    turns: tuple[int, ...]
    categories: Mapping[str, Scores]
    total: Scores
    fastchat: FastChatAverages
    error: float | None
    choices: int
    choices_deviation: float | None
    outside: int
    repeated: int
    judged_with: JsonObject | None

    @property
    def second_turn_judged(self) -> bool:
        """Whether the average covers both turns, as the card's does."""
        return 2 in self.turns


def report_models(
    judgements: Sequence[Judgement],
    answers: Mapping[str, Mapping[int, Answer]],
    categories: Mapping[int, str],
) -> list[ModelReport]:
    """A report for every judge and model, best average first.

    ``answers`` by model are what the share of Japanese is counted in, where they are at hand;
    ``categories`` by question id go before what the records say. A question of no known category counts
    under ``""``.
    """
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        groups[judgement.judge, judgement.model].append(judgement)
    reports = [
        _report(judge, model, group, answers.get(model, {}), categories)
        for (judge, model), group in groups.items()
    ]
    return sorted(reports, key=lambda report: (report.judge, -(report.total.mean or 0.0), report.model))


def _report(
    judge: str,
    model: str,
    judgements: Sequence[Judgement],
    answers: Mapping[int, Answer],
    known: Mapping[int, str],
) -> ModelReport:
    groups: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        groups[known.get(one.question_id) or one.category or ""].append(one)
    by_category = {name: groups[name] for name in sorted(groups, key=_place)}
    shares = {name: _japanese_share(answers, group) for name, group in by_category.items()}
    categories = {name: _scores(group, shares[name]) for name, group in by_category.items()}
    choices = sorted({one.choice for one in judgements})
    averages = [_average(by_category.values(), choice) for choice in choices]
    known_averages = [average for average in averages if average is not None]
    return ModelReport(
        model=model,
        judge=judge,
        prompts=tuple(sorted({one.prompt for one in judgements if one.prompt})),
        turns=tuple(sorted({one.turn for one in judgements})),
        categories=categories,
        total=_total(categories, _japanese_share(answers, judgements)),
        fastchat=FastChatAverages(
            first_turn=_mean(one for one in judgements if one.turn == 1),
            second_turn=_mean(one for one in judgements if one.turn == 2),
            average=_mean(judgements),
        ),
        error=_standard_error(by_category.values()),
        choices=len(choices),
        choices_deviation=statistics.stdev(known_averages) if len(known_averages) > 1 else None,
        outside=sum(one.readable and not _LOWEST <= one.score <= _HIGHEST for one in judgements),
        repeated=len(judgements) - len({one.key for one in judgements}),
        judged_with=next((one.provenance for one in reversed(judgements) if one.provenance), None),
    )


def _place(category: str) -> tuple[int, str]:
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)), category


def _scores(judgements: Sequence[Judgement], japanese_share: float | None) -> Scores:
    return Scores(
        mean=_mean(judgements),
        with_failures=statistics.fmean(one.score for one in judgements),
        first_turn=_mean(one for one in judgements if one.turn == 1),
        second_turn=_mean(one for one in judgements if one.turn == 2),
        questions=len({one.question_id for one in judgements}),
        judgements=len(judgements),
        unreadable=sum(not one.readable for one in judgements),
        japanese_share=japanese_share,
    )


def _total(categories: Mapping[str, Scores], japanese_share: float | None) -> Scores:
    scores = list(categories.values())
    return Scores(
        mean=_mean_of(one.mean for one in scores),
        with_failures=_mean_of(one.with_failures for one in scores),
        first_turn=_mean_of(one.first_turn for one in scores),
        second_turn=_mean_of(one.second_turn for one in scores),
        questions=sum(one.questions for one in scores),
        judgements=sum(one.judgements for one in scores),
        unreadable=sum(one.unreadable for one in scores),
        japanese_share=japanese_share,
    )


def _mean(judgements: Iterable[Judgement]) -> float | None:
    return _mean_of(one.score for one in judgements if one.readable)


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _average(groups: Iterable[Sequence[Judgement]], choice: int) -> float | None:
    """The average of one choice."""
    return _mean_of(_mean(one for one in group if one.choice == choice) for group in groups)


def _standard_error(groups: Iterable[Sequence[Judgement]]) -> float | None:
    """Of the mean of category means, from the scores of their questions; None where one has a single one."""
    variances = []
    for group in groups:
        by_question: dict[int, list[float]] = defaultdict(list)
        for one in group:
            if one.readable:
                by_question[one.question_id].append(one.score)
        means = [statistics.fmean(scores) for scores in by_question.values()]
        if len(means) < 2:
            return None
        variances.append(statistics.variance(means) / len(means))
    return math.sqrt(sum(variances)) / len(variances) if variances else None


def _japanese_share(answers: Mapping[int, Answer], judgements: Iterable[Judgement]) -> float | None:
    """Over all characters of all answers to the questions that were judged."""
    japanese = total = 0
    for id_ in {one.question_id for one in judgements} & answers.keys():
        for text in (text for turns in answers[id_].choices for text in turns):
            counts = japanese_count(text)
            japanese, total = japanese + counts[0], total + counts[1]
    return japanese / total if total else None

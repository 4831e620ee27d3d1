"""Means and spreads against sums written out here, and FastChat's own averages."""

import json
import math
import random
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.answers import Answer
from tanuki_cli.evaluation.mtbench.japanese import japanese_count, plain_text
from tanuki_cli.evaluation.mtbench.judgements import Judgement, read_judgements
from tanuki_cli.evaluation.mtbench.questions import CATEGORIES, category_of
from tanuki_cli.evaluation.mtbench.report import ModelReport, report_models
from tanuki_cli.evaluation.mtbench.results import read_results


def judgement(id_: int, score: float, *, turn: int = 1, choice: int = 0, model: str = "m") -> Judgement:
    return Judgement(
        question_id=id_,
        model=model,
        judge="gpt-4",
        prompt="single-v1",
        turn=turn,
        choice=choice,
        score=score,
        category=category_of(id_),
    )


def report_of(judgements: list[Judgement]) -> ModelReport:
    [report] = report_models(judgements, {}, {})
    return report


def random_records(seed: int, *, failures: float, choices: int) -> list[dict[str, Any]]:
    """A whole run as FastChat writes it, with a choice where there are several."""
    draw = random.Random(seed)
    return [
        {
            "question_id": id_,
            "model": model,
            "judge": ["gpt-4", "single-v1"],
            "score": -1 if draw.random() < failures else draw.choice([1, 5, 5, 7.5, 10]),
            "turn": turn,
            **({"choice": choice} if choices > 1 else {}),
        }
        for model in ("a", "b")
        for turn in (1, 2)
        for id_ in range(1, 81)
        for choice in range(choices)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("failures", [0.0, 0.2])
def test_the_averages_are_those_of_the_card_and_of_fastchat(
    tmp_path: Path, seed: int, choices: int, failures: float
) -> None:
    records = random_records(seed, failures=failures, choices=choices)
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    reports = {report.model: report for report in report_models(read_judgements([path])[0], {}, {})}
    for model, report in reports.items():
        rows = [record for record in records if record["model"] == model]
        # show_result: drop -1, then means over rows.
        kept = [row for row in rows if row["score"] != -1]
        theirs = [[row["score"] for row in kept if row["turn"] in turns] for turns in ((1,), (2,), (1, 2))]
        ours = [report.fastchat.first_turn, report.fastchat.second_turn, report.fastchat.average]
        assert ours == pytest.approx([statistics.fmean(scores) for scores in theirs])
        # The card: means over the rows of a category, then over categories; its team kept -1.
        for counted, average in ((kept, report.total.mean), (rows, report.total.with_failures)):
            groups = defaultdict(list)
            for row in counted:
                groups[category_of(row["question_id"])].append(row["score"])
            assert len(groups) == 8
            assert average == pytest.approx(statistics.fmean(map(statistics.fmean, groups.values())))
        assert report.total.unreadable == len(rows) - len(kept)
        assert (report.total.questions, report.total.judgements) == (80, 160 * choices)
        assert report.choices == choices
        assert (report.choices_deviation is None) == (choices == 1)


def test_swallows_lists_give_swallows_figures(tmp_path: Path) -> None:
    """Its mean and deviation: the mean over all turns for each choice, then over the choices."""
    draw = random.Random(7)
    scores = [[draw.randint(1, 10) for _choice in range(5)] for _row in range(160)]
    rows = [
        {
            "question_id": place % 80 + 1,
            "model": "m",
            "judge": ["g", "p"],
            "score": five,
            "turn": place // 80 + 1,
        }
        for place, five in enumerate(scores)
    ]
    path = tmp_path / "g_single.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [report] = report_models(read_judgements([path])[0], {}, {})
    by_choice = [statistics.fmean(five[choice] for five in scores) for choice in range(5)]
    assert report.total.mean == pytest.approx(statistics.fmean(by_choice))
    assert report.choices_deviation == pytest.approx(statistics.stdev(by_choice))


def test_the_spread_over_questions() -> None:
    """Two categories of two questions: the error of the mean of two means."""
    report = report_of(
        [judgement(1, 4), judgement(1, 6, turn=2), judgement(2, 9), judgement(11, 3), judgement(12, 5)]
    )
    coding, extraction = statistics.variance([5, 9]) / 2, statistics.variance([3, 5]) / 2
    assert report.error == pytest.approx(math.sqrt(coding + extraction) / 2)
    assert report_of([judgement(1, 4), judgement(11, 5), judgement(12, 5)]).error is None


def test_what_is_odd_is_counted() -> None:
    report = report_of(
        [judgement(1, 0), judgement(1, 0), judgement(2, 11), judgement(3, -1), judgement(500, 4)]
    )
    assert (report.outside, report.repeated, report.total.unreadable) == (3, 1, 1)
    assert list(report.categories) == ["coding", ""]
    assert not report.second_turn_judged
    assert report_of([judgement(1, -1)]).total.mean is None


def test_categories_stand_in_the_usual_order() -> None:
    report = report_of([judgement(id_, 5) for id_ in range(1, 81)])
    assert tuple(report.categories) == CATEGORIES


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# 見出し\n\n**太字**と[リンク](https://example.com/long)です。", "見出し\n太字とリンクです。"),
        ("- 一\n- 二\n\n```python\nprint('狸')\n```", "一\n二\nprint('狸')"),
        ("行\n続き", "行\n続き"),
        ("", ""),
    ],
)
def test_markdown_is_taken_away(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("たぬき、タヌキ、狸。", (10, 10)),
        ("Tanuki は狸", (2, 8)),
        ("ＡＢＣ\u3000々〜", (5, 5)),
        ("**a**", (0, 1)),
        (" \n ", (0, 0)),
    ],
)
def test_japanese_characters_are_counted(text: str, counts: tuple[int, int]) -> None:
    assert japanese_count(text) == counts


def test_the_share_of_japanese_is_over_all_that_was_answered() -> None:
    answers = {1: Answer(question_id=1, answer_id=None, choices=(("たぬき", "abc"), ("狸", "a")))}
    [report] = report_models([judgement(1, 5), judgement(2, 5)], {"m": answers}, {})
    assert report.categories["coding"].japanese_share == report.total.japanese_share == 4 / 8


def test_results_are_found_in_every_layout(tmp_path: Path) -> None:
    record = json.dumps({"question_id": 1, "model": "m", "judge": ["g", "p"], "score": 5, "turn": 1})
    answer = json.dumps({"question_id": 1, "choices": [{"index": 0, "turns": ["たぬき"]}]})
    bench = tmp_path / "data" / "japanese_mt_bench"
    for file, line in (
        ("model_judgment/g_single.jsonl", record),
        ("model_judgment/h_single/m__1turn.jsonl", record.replace('"g"', '"h"')),
        ("model_answer/m.jsonl", answer),
    ):
        (bench / file).parent.mkdir(parents=True, exist_ok=True)
        (bench / file).write_text(line)
    for path in (bench, tmp_path / "data"):
        found = read_results([path], data=None, models=[])
        assert [(one.judge, one.total.mean, one.total.japanese_share) for one in found.reports] == [
            ("g", 5, 1.0),
            ("h", 5, 1.0),
        ]
    for path in (
        bench / "model_judgment" / "h_single",
        bench / "model_judgment" / "h_single" / "m__1turn.jsonl",
    ):
        [report] = read_results([path], data=None, models=["m"]).reports
        assert (report.judge, report.total.japanese_share) == ("h", 1.0)
    with pytest.raises(InputError, match="No answer of other"):
        read_results([bench], data=None, models=["other"])
    with pytest.raises(InputError, match="no judgements"):
        read_results([tmp_path], data=None, models=[])


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_counted_as_fastchat_counts_them(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    outcomes = ("model_1", "model_2", "tie", "error")
    rows = [
        {
            "question_id": id_,
            "model_1": first,
            "model_2": second,
            "judge": ["gpt-4", "pair-v2"],
            "g1_winner": draw.choice(outcomes),
            "g2_winner": draw.choice(outcomes),
        }
        for id_ in range(40)
        for first, second in (("a", "b"), ("b", "c"), ("a", "c"))
    ]
    folder = tmp_path / "model_judgment"
    folder.mkdir()
    lines = [json.dumps(row) for row in rows]
    (folder / "gpt-4_pair.jsonl").write_text("\n".join([*lines, '{"g1_winner": "a"}']))
    (folder / "other_pair.jsonl").write_text("")
    results = read_results([tmp_path], data=None, models=[])
    expected = {model: [0, 0, 0] for model in "abc"}
    for row in rows:
        winners = [row["g1_winner"], row["g2_winner"]]
        if "error" in winners:
            continue
        for name in ("model_1", "model_2"):
            tie = winners[0] == "tie" or winners[0] != winners[1]
            expected[row[name]][2 if tie else 0 if winners[0] == name else 1] += 1  # type: ignore[index]
    assert {one.model: [one.win, one.loss, one.tie] for one in results.pairs} == expected
    assert results.unreadable_pairs == sum("error" in (row["g1_winner"], row["g2_winner"]) for row in rows)
    assert len(results.left_out) == 1
    rates = [one.adjusted_win_rate for one in results.pairs]
    assert rates == sorted(rates, reverse=True)
    [pair] = {
        tuple(
            sorted(
                (one.model, str(one.count))
                for one in read_results([tmp_path], data=None, models=["a", "b"]).pairs
            )
        )
    }
    assert [model for model, _count in pair] == ["a", "b"]

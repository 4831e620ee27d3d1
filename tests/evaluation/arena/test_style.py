"""Style control: what is counted, and that an effect of known size is found and taken out."""

import numpy as np
import numpy.typing as npt
import pytest

from tanuki_cli.evaluation.arena.ratings import Tally, strengths
from tanuki_cli.evaluation.arena.style import (
    FEATURES,
    RIDGE,
    StyledVote,
    differences,
    features,
    styled_strengths,
)
from tests.support.simulated_votes import simulated_votes


def test_what_is_counted() -> None:
    text = "# 見出し\n本文 **太字** と __もう一つ__\n\n- 一\n* 二\n  1. 三\n#タグ\n5 * 3 ** 2 ** 1\n"
    assert features(text).tolist() == [len(text), 1, 3, 2]


def test_code_has_no_marks() -> None:
    code = "```python\n# a comment\n- x\n**a**\n```\n"
    assert features(code).tolist() == [len(code), 0, 0, 0]
    assert features("~~~\n# x\n```\n# y\n~~~\n# z")[1] == 1


def styled(votes: list[tuple[int, int, float]], texts: list[tuple[str, str]]) -> list[StyledVote]:
    return [
        StyledVote(first=first, second=second, score=score, texts=both)
        for (first, second, score), both in zip(votes, texts, strict=True)
    ]


def test_without_any_difference_in_style_it_is_the_plain_rating() -> None:
    votes = simulated_votes(np.random.default_rng(0), np.array([0.6, 0.1, -0.7]), 200)
    fit = styled_strengths(
        3, styled(votes, [("同じ長さ", "おなじ長")] * 200), draws=10, rng=np.random.default_rng(0)
    )
    assert fit.theta == pytest.approx(strengths(Tally.of(3, votes).points()), abs=1e-7)
    assert [effect.value for effect in fit.effects] == [0.0] * len(FEATURES)


def test_a_preference_for_length_is_found_and_taken_out() -> None:
    """Two equal models, of which one writes longer answers, before voters who like them long."""
    rng = np.random.default_rng(5)
    votes, texts = [], []
    for _vote in range(1500):
        first = int(rng.integers(2))
        lengths = [int(rng.integers(300, 900)), int(rng.integers(100, 600))]
        pair = lengths if first == 0 else lengths[::-1]
        likes = 2.0 * (pair[0] - pair[1]) / (pair[0] + pair[1])
        votes.append((first, 1 - first, float(rng.random() < 1 / (1 + np.exp(-likes)))))
        texts.append(("あ" * pair[0], "あ" * pair[1]))
    plain = strengths(Tally.of(2, votes).points())
    fit = styled_strengths(2, styled(votes, texts), draws=100, rng=rng)
    assert plain[0] - plain[1] > 0.4
    assert abs(fit.theta[0] - fit.theta[1]) < 0.25
    length = fit.effects[0]
    true = 2.0 * np.sqrt(np.mean([((len(a) - len(b)) / (len(a) + len(b) + 1)) ** 2 for a, b in texts]))
    assert length.feature == "length"
    assert length.low < true < length.high
    assert length.low > 0
    assert fit.drawn.shape == (100, 2)


def test_exchanging_the_answers_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    votes = simulated_votes(rng, np.array([0.3, 0.0, -0.3]), 120)
    texts = [("- あ\n" * int(rng.integers(1, 9)), "**い** " * int(rng.integers(1, 9))) for _vote in votes]
    turned = [(second, first, 1 - score) for first, second, score in votes]
    one = styled_strengths(3, styled(votes, texts), draws=5, rng=rng)
    other = styled_strengths(3, styled(turned, [both[::-1] for both in texts]), draws=5, rng=rng)
    assert other.theta == pytest.approx(one.theta, abs=1e-8)
    assert [effect.value for effect in other.effects] == pytest.approx(
        [effect.value for effect in one.effects], abs=1e-8
    )


def test_it_is_the_ridge_regression_it_says_it_is() -> None:
    """The gradient of the stated loss, written down anew, is zero there."""
    rng = np.random.default_rng(8)
    votes = simulated_votes(rng, np.array([0.5, 0.0, 0.2, -0.7]), 90)
    texts = [("# い\n" * int(rng.integers(3)) + "あ" * 9, "う" * int(rng.integers(1, 99))) for _vote in votes]
    rows = styled(votes, texts)
    fit = styled_strengths(4, rows, draws=2, rng=rng)
    effects = np.array([effect.value for effect in fit.effects])
    x = differences(rows)

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        theta, gamma = parameters[:4], parameters[4:]
        odds = np.array([theta[row.first] - theta[row.second] for row in rows]) + x @ gamma
        score = np.array([row.score for row in rows])
        votes_part = -(score * odds - np.logaddexp(0, odds)).sum()
        prior = sum(
            (0.5 / 3) * (np.logaddexp(0, theta[a] - theta[b]) - 0.5 * (theta[a] - theta[b]))
            for a in range(4)
            for b in range(a)
        )
        return float(votes_part + prior + RIDGE / 2 * gamma @ gamma)

    best = np.concatenate([fit.theta, effects])
    slopes = [(loss(best + h) - loss(best - h)) / 2e-4 for h in 1e-4 * np.eye(8)]
    assert slopes == pytest.approx([0.0] * 8, abs=1e-5)

"""The texts that guessing ahead is judged by, and what is predicted for them."""

import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

from scripts.bench_drafts import COPYING, COSTS, FREE, Text, predicted_steps, read_texts
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.tokenizer import ChatTokenizer


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    file = practice_model().tokenizer
    assert file is not None
    return read_texts(ChatTokenizer.from_reference(file))


def test_every_kind_is_there_in_both_languages(texts: list[Text]) -> None:
    kinds = {
        language: [text.kind for text in texts if text.language == language] for language in ("ja", "en")
    }
    assert kinds["ja"] == kinds["en"]
    assert len(set(kinds["ja"])) == len(kinds["ja"]) >= 12
    assert {*FREE, *COPYING} < set(kinds["ja"])
    assert all(len(text.answer) > 64 < len(text.prompt) + 40 for text in texts)


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS)
def test_drafts_are_predicted_to_pay_and_never_to_cost_much(
    texts: list[Text], costs: Mapping[int, float]
) -> None:
    assert set(costs) == {1, *(length + 1 for length in LENGTHS)}
    for text in texts:
        steps, accepted = predicted_steps(text, costs)
        ratio = len(text.answer) / steps
        assert 0 <= accepted < len(text.answer)
        assert ratio >= 0.97, (text.kind, text.language)
        if text.kind in FREE:
            assert ratio >= 0.98, (text.kind, text.language)
        if text.kind in COPYING:
            assert ratio > 1.0, (text.kind, text.language)


@pytest.mark.parametrize("ties", [0.003, 0.05, 0.3])
@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS)
def test_near_ties_cost_a_free_greedy_answer_nothing(
    texts: list[Text], costs: Mapping[int, float], ties: float
) -> None:
    for text in texts:
        if text.kind in FREE:
            steps, _accepted = predicted_steps(text, costs, ties=ties)
            assert len(text.answer) / steps >= 0.98, (text.kind, text.language)


def test_the_bench_computes_a_text_with_the_practice_model() -> None:
    command = [sys.executable, "-m", "scripts.bench_drafts", "--model", str(practice_model().path)]
    command += ["--kinds", "quote,story", "--languages", "ja", "--tokens", "32", "--runs", "1"]
    result = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()[4:]]
    assert [row[:2] for row in rows] == [["quote", "ja"], ["story", "ja"]]
    assert all(re.fullmatch(r"\d+\.\d\d", cell) and float(cell) > 0 for row in rows for cell in row[2:])

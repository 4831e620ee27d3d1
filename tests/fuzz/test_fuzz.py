"""A small run of every fuzzer: the same mutants each time. A long run: ``python -m tests.fuzz.NAME``."""

import random
from pathlib import Path

import pytest

from tests.fuzz import checkpoint, gguf, harness, history, inputs, kv, servers, settings, tokenizer

RUNS = (
    ("tests.fuzz.gguf", ".gguf", gguf.make, 150, "runs"),
    ("tests.fuzz.tokenizer", ".json", tokenizer.make, 150, "used"),
    ("tests.fuzz.kv", ".kv", kv.make, 150, "restored"),
    ("tests.fuzz.checkpoint", ".json", checkpoint.make, 150, "read"),
    ("tests.fuzz.history", ".json", history.make, 60, "read"),
    ("tests.fuzz.settings", ".json", settings.make, 40, "read"),
    ("tests.fuzz.servers", ".json", servers.make, 100, "answered"),
    ("tests.fuzz.inputs", ".json", inputs.make, 80, "done"),
)


@pytest.mark.parametrize(("target", "suffix", "make", "count", "good"), RUNS, ids=[run[0] for run in RUNS])
def test_no_mutant_does_what_no_input_may_do(
    target: str, suffix: str, make: harness.Make, count: int, good: str
) -> None:
    result = harness.run(target, make, count=count, seed=0, suffix=suffix)
    assert result.findings == []
    # Mutants that are all refused would try nothing behind the checks.
    assert result.outcomes[good] >= count // 10
    assert sum(result.outcomes.values()) == count


def test_a_child_that_dies_hangs_or_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TIME_LIMIT_S", 1.0)
    wishes = iter(("signal", "hang", "exception", "noise", "sentence", "fine"))

    def make(_random: random.Random, path: Path) -> str:
        wish = next(wishes)
        path.write_text(wish)
        return wish

    result = harness.run("tests.support.fuzz_victim", make, count=6, seed=0, suffix=".txt")
    kinds = [finding.split(": ")[1] for finding in result.findings]
    assert kinds == ["signal", "hang", "exception", "noise", "sentence"]
    assert result.outcomes["fine"] == 2

"""A file's header is read and judged once in a start, however many parts of the program ask."""

import sys
from collections import Counter
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.cli import app
from tanuki_cli.cli.run import run
from tanuki_cli.engines.llama_cpp import facts, gguf, loader, opening


@pytest.mark.parametrize(
    "command",
    [["ask", "-m", "mame", "はい?"], ["ask", "-m", str(practice_model().path), "--no-save", "はい?"]],
)
def test_the_header_is_read_and_judged_once(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()

    def counted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counts[function.__name__] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO()))
    monkeypatch.setenv("TANUKI_HOME", str(tmp_path))
    for module, name in (
        (gguf, "_read"),
        (facts, "model_facts"),
        (loader, "model_facts"),
        (opening, "model_facts"),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    assert run(app, [*command, "--max-new-tokens", "2"]) == 0
    assert counts == {"_read": 1, "model_facts": 1}

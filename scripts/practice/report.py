"""Measures the exported model and writes the figures down."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from . import evaluate as ask
from .lessons import read_lessons

Measure = Callable[[], ask.Score]
REPORT = Path(__file__).parent / "REPORT.md"


def evaluate(
    out: Path, work: Path, *, limit: int | None, threads: int, report: bool, show_wrong: bool
) -> None:
    """Prints every measure of the model in `out`; with `report`, writes REPORT.md too."""
    lessons = read_lessons()
    asker = ask.Asker(out / "mame-q8_0.gguf", out / "tokenizer.json", threads=threads)
    started = time.monotonic()
    measures: dict[str, Measure] = {
        "Suggested questions": lambda: ask.suggested(asker, lessons),
        "Trained phrasings of facts": lambda: ask.trained(asker, lessons, limit=limit),
        "Trained unknown questions": lambda: ask.unknown(asker, lessons, limit=limit),
        "Held-out phrasings of facts": lambda: ask.held_out(asker, lessons, "fact"),
        "Held-out unknown questions": lambda: ask.held_out(asker, lessons, "unknown"),
        "Follow-ups (tell me more, why)": lambda: ask.follow_ups(asker, lessons),
        "Facts after 3 other turns": lambda: ask.late_questions(asker, lessons, turns=3, count=100),
        "Facts after 10 other turns": lambda: ask.late_questions(asker, lessons, turns=10, count=60),
    }
    lines: list[str] = []
    for name, measure in measures.items():
        score = measure()
        lines.append(f"| {name} | {score} |")
        print(f"{time.monotonic() - started:6.0f} s  {name}: {score}", flush=True)
        for question, expected, got in score.wrong if show_wrong else []:
            print(f"    {question!r}\n        wanted {expected!r}\n        got    {got!r}")
    if report:
        facts = [lesson for lesson in lessons if lesson.kind == "fact"]
        phrasings = sum(len(lesson.questions) for lesson in facts)
        size = (out / "mame-q8_0.gguf").stat().st_size / 1e6
        REPORT.write_text(_report(lines, len(facts), phrasings, size, work), encoding="utf-8")


def _report(lines: list[str], facts: int, phrasings: int, megabytes: float, work: Path) -> str:
    trained = json.loads((work / "trained.json").read_text(encoding="utf-8"))
    table = "\n".join(["| measure | right |", "|---|---|", *lines])
    return f"""# What was measured

The shipped file `mame-q8_0.gguf` ({megabytes:.1f} MB) through llama.cpp, greedy; an answer is right
when it equals the answer in the texts, character by character.

{facts} facts in {phrasings} trained phrasings; phrasings held out were never trained.

{table}

Training: {trained["steps"]} steps, {trained["ids"] / 1e6:.1f} million ids (padding included),
{trained["seconds"] / 60:.0f} minutes on two cores that other work shared at times.

Written by `scripts/make_practice_model.py evaluate --report`.
"""

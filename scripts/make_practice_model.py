#!/usr/bin/env python3
"""Makes 豆だぬき (`mame`), the practice model inside the package, and forms of it for tests.

    make_practice_model.py all            everything, about an hour on two cores
    make_practice_model.py tokenizer      work/mame/tokenizer.json from the texts
    make_practice_model.py train          work/mame/checkpoint.pt; --resume goes on after a stop
    make_practice_model.py export         the three files in tanuki_cli/mame/
    make_practice_model.py evaluate       asks the exported file; --report writes REPORT.md
    make_practice_model.py formats --out DIR   other forms of the shipped file, in seconds

`formats` needs numpy, gguf and safetensors only; `train` and `export` need torch too.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "tanuki_cli" / "mame"
WORK = REPOSITORY / "work" / "mame"
MODEL = "mame-q8_0.gguf"


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that the command line names."""
    sys.path.insert(0, str(REPOSITORY))  # for scripts.practice, when this file itself is run
    options = _parser().parse_args(arguments)
    steps = ["tokenizer", "train", "export", "evaluate"] if options.step == "all" else [options.step]
    for step in steps:
        _STEPS[step](options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Makes the practice model mame.")
    parser.add_argument("step", choices=["all", *_STEPS])
    parser.add_argument("--work", type=Path, default=WORK, help="folder of unfinished files")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of finished files")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--steps", type=int, default=None, help="training steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="ask only so many phrasings")
    parser.add_argument("--report", action="store_true", help="write scripts/practice/REPORT.md")
    parser.add_argument("--show-wrong", action="store_true", help="list every wrong answer")
    return parser


def make_tokenizer(options: argparse.Namespace) -> None:
    """work/mame/tokenizer.json from the texts."""
    from scripts.practice.lessons import read_lessons
    from scripts.practice.tokenizer import save_tokenizer, train_tokenizer

    options.work.mkdir(parents=True, exist_ok=True)
    save_tokenizer(train_tokenizer(read_lessons()), options.work / "tokenizer.json")


def train_model(options: argparse.Namespace) -> None:
    """work/mame/checkpoint.pt, saved every few minutes."""
    import torch

    from scripts.practice.train import Plan, train

    torch.set_num_threads(options.threads)
    plan = Plan() if options.steps is None else Plan(steps=options.steps)
    train(options.work / "tokenizer.json", options.work, plan, resume=options.resume)


def export_model(options: argparse.Namespace) -> None:
    """The three files of the package from the checkpoint."""
    from scripts.practice.checkpoint import export_checkpoint

    export_checkpoint(options.work, options.out)


def evaluate_model(options: argparse.Namespace) -> None:
    """Ask the exported file everything."""
    from scripts.practice.report import evaluate

    evaluate(
        options.out,
        options.work,
        limit=options.limit,
        threads=options.threads,
        report=options.report,
        show_wrong=options.show_wrong,
    )


def write_formats(options: argparse.Namespace) -> None:
    """Other forms of the shipped file."""
    from scripts.practice.formats import write_all

    if options.out == SHIPPED:
        sys.exit("formats: name a folder of its own with --out")
    write_all(SHIPPED / MODEL, SHIPPED / "tokenizer.json", options.out)


_STEPS = {
    "tokenizer": make_tokenizer,
    "train": train_model,
    "export": export_model,
    "evaluate": evaluate_model,
    "formats": write_formats,
}

if __name__ == "__main__":
    raise SystemExit(main())

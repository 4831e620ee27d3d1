"""The options of ``tanuki mtbench``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from tanuki_cli.cli.completing import model_names
from tanuki_cli.cli.options import (
    MOST_PLACES,
    PARALLEL,
    LoadingOptions,
    ModelChoice,
    SystemOption,
    read_count,
)
from tanuki_cli.evaluation.mtbench.setup import JudgeFiles
from tanuki_cli.i18n import N_
from tanuki_cli.options import OptionSpec

DEFAULT_FOLDER: Final = Path("mtbench")
_CHOICES: Final = OptionSpec(
    key="choices_per_question",
    kind="integer",
    minimum=1,
    maximum=100,
    usual=5,
    help=N_("Answers per question, for a spread."),
)
_LIMIT: Final = OptionSpec(
    key="limit", kind="integer", minimum=1, maximum=1_000_000, usual=8, help=N_("At most this many now.")
)


class BenchOptions(LoadingOptions):
    """What answering and judging share: the files of the bench, and those of the run."""

    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help=N_("Your copy of FastChat's, Swallow's or Nejumi's files."),
            show_default=False,
        ),
    ] = None
    mini: Annotated[bool, typer.Option("--mini", help=N_("The 8 questions of this program, to try it."))] = (
        False
    )
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help=N_("Folder of answers and judgements (mtbench).")
        ),
    ] = DEFAULT_FOLDER
    limit: Annotated[
        str | None, typer.Option("--limit", "-n", metavar="N", help=N_("At most this many now."))
    ] = None
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar=f"1-{MOST_PLACES}",
            help=N_("So many answers at a time: by default as many as pay; one from a judge."),
        ),
    ] = None
    again: Annotated[
        Path | None,
        typer.Option("--again", metavar="FILE", help=N_("Run once more what this file of records says.")),
    ] = None

    @property
    def count(self) -> int | None:
        """``limit`` as a number. Raises InputError for one out of range."""
        return read_count(_LIMIT, self.limit) if self.limit else None

    @property
    def places(self) -> int | None:
        """``parallel`` as a number. Raises InputError for one out of range."""
        return read_count(PARALLEL, self.parallel) if self.parallel else None

    @property
    def names_bench(self) -> bool:
        """Whether the user says which questions."""
        return self.data is not None or self.mini


class AnswerOptions(BenchOptions, ModelChoice, SystemOption):
    """The options of ``answer``."""

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="card|jp-stable",
            help=N_("Generate as the model card's team did (card), or as FastChat's Japanese branch."),
        ),
    ] = None
    choices_per_question: Annotated[
        str | None, typer.Option(metavar="N", help=N_("Answers per question, for a spread."))
    ] = None
    model_id: Annotated[
        str | None, typer.Option(metavar="NAME", help=N_("Name of the model in the records."))
    ] = None

    def choices(self, usual: object) -> int:
        """``choices_per_question`` as a number, else ``usual``. Raises InputError for one out of range."""
        return read_count(_CHOICES, self.choices_per_question or str(usual))


class JudgeOptions(BenchOptions):
    """The options of ``judge``; the model is the judge."""

    model: Annotated[
        str | None,
        typer.Option(
            "--judge",
            "-j",
            metavar="MODEL",
            help=N_("The judge: https://…/v1#MODEL, or a local model."),
            autocompletion=model_names,
            show_default=False,
        ),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help=N_("Do not ask."))] = False
    model_id: Annotated[
        list[str] | None,
        typer.Option("--model-id", metavar="NAME", help=N_("Only the answers of this model (repeatable).")),
    ] = None
    judge_name: Annotated[
        str | None, typer.Option(metavar="NAME", help=N_("Name of the judge in the records."))
    ] = None
    judge_prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("The judge's prompts (judge_prompts.jsonl)."))
    ] = None
    multi_turn_prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=N_("Prompts for the second turn, where those lack them.")),
    ] = None
    references: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("The reference answers (reference_answer/…)."))
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help=N_("Only say what it would take."))] = False

    @property
    def files(self) -> JudgeFiles:
        """The files that the user named."""
        return JudgeFiles(
            prompts=self.judge_prompts, multi_turn=self.multi_turn_prompts, references=self.references
        )

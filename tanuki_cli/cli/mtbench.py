"""``tanuki mtbench``: answer, judge, show."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.cli import mtbench_export as export
from tanuki_cli.cli import mtbench_output as output
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.model_source import model_source
from tanuki_cli.cli.mtbench_options import DEFAULT_FOLDER, AnswerOptions, BenchOptions, JudgeOptions
from tanuki_cli.cli.options import OutputOptions, describe_group, takes
from tanuki_cli.engines.base import Answerer
from tanuki_cli.errors import InputError, InterruptedByUser
from tanuki_cli.evaluation.mtbench.answers import AnswerRun, answer_path
from tanuki_cli.evaluation.mtbench.generating import AnswerProgress, generate_answers
from tanuki_cli.evaluation.mtbench.judging import JudgeProgress, Judging, Match, matches_of
from tanuki_cli.evaluation.mtbench.results import read_results
from tanuki_cli.evaluation.mtbench.setup import (
    Bench,
    answer_run,
    answered_models,
    check_questions,
    file_name,
    judge_files,
    judge_run,
    last_provenance,
    open_bench,
    preset_named,
    read_provenance,
    reopen_bench,
)
from tanuki_cli.evaluation.provenance import ModelSource, Provenance
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.terminal.step_progress import StepProgress

_HELP: Final = N_(
    """Japanese MT-Bench: the model card's table for your own file.

Examples:
  tanuki mtbench answer -m tanuki-8b:q4_k_m --data FastChat
  tanuki mtbench judge --judge https://api.example.com/v1#gpt-4-0613
  tanuki mtbench show --svg radar.svg
  tanuki mtbench answer -m mame --mini

The questions are not part of this program; answer says where they are published.

What the figures mean: tanuki help evaluation"""
)
_AGAIN: Final = "-again"

mtbench_app = typer.Typer(add_completion=False, help=_HELP)


describe_group(mtbench_app)


@mtbench_app.command("answer", help=N_("Let a model answer the questions; run again, it goes on."))
@takes(AnswerOptions)
def answer_command(ctx: typer.Context, options: AnswerOptions) -> None:
    """Let a model answer the questions; run again, it goes on."""
    context = prepare(ctx, options)
    before = _read_record(options, "mtbench answer")
    asked = dict(before.options) if before else {}
    choices = options.choices(asked.get("choices_per_question", 1))
    preset = preset_named(options.preset or str(asked.get("preset", "card")))
    limit = options.count
    bench = reopen_bench(before) if before and not options.names_bench else _open_bench(options)
    for remark in bench.questions.remarks:
        context.console.warn(remark)
    context, reference = _as_before(context, options, before)
    with closing(open_model(context, options, reference=reference, use="many")) as model:
        own_name = f"{options.again.stem}{_AGAIN}" if options.again else _name_of(model)
        run = answer_run(
            bench,
            model_source(context, model),
            model_id=file_name(options.model_id or own_name),
            preset=preset,
            choices=choices,
            system=context.settings.system if options.names("system") else asked.get("system"),
        )
        _answer(context, model, bench, run, options, limit)
    command = f"tanuki mtbench judge{_folder_option(options.output)} --judge https://…/v1#MODEL"
    context.console.note(_("To have them judged: {command}").format(command=command))


def _answer(
    context: CommandContext,
    model: LoadedModel,
    bench: Bench,
    run: AnswerRun,
    options: AnswerOptions,
    limit: int | None,
) -> None:
    console = context.console
    if model.practice:
        console.note(_("豆だぬき, the practice model, answers:"), style="practice")
    answered = 0
    with (
        closing(model.engine.answerer(options.places)) as answerer,
        _kept_when_interrupted(context),
        StepProgress(console) as progress,
    ):

        def report(state: AnswerProgress) -> None:
            parts = (_("question {id}"), _("{count} tokens"))
            detail = " · ".join(parts).format(id=state.question_id, count=state.tokens)
            progress.update(state.done, state.total, detail)

        answered = generate_answers(
            answerer,
            bench.questions.questions,
            run,
            options.output,
            limit=limit,
            report=report,
            note=console.note,
        )
    path = answer_path(options.output, run.model_id)
    console.note(
        _("Questions answered: {count}, in {path}.").format(count=answered, path=path), style="success"
    )


@mtbench_app.command("judge", help=N_("Let a judge score the answers; run again, it goes on."))
@takes(JudgeOptions)
def judge_command(ctx: typer.Context, options: JudgeOptions) -> None:
    """Let a judge score the answers; run again, it goes on."""
    context = prepare(ctx, options)
    before = _read_record(options, "mtbench judge")
    if options.model is None and before is None:
        raise InputError(
            _("The judge is missing."), hint="tanuki mtbench judge --judge https://…/v1#gpt-4-0613"
        )
    limit = options.count
    answers = answered_models(options.output, options.model_id or [])
    made_with = before or last_provenance(answers)
    bench = _open_bench(options) if options.names_bench or made_with is None else reopen_bench(made_with)
    check_questions(bench, answers)
    context, reference = _as_before(context, options, before)
    with closing(open_model(context, options, reference=reference, use="many")) as model:
        name = options.judge_name or _name_of(model) + (_AGAIN if options.again else "")
        files = judge_files(options.files, before, bench)
        run = judge_run(bench, model_source(context, model), files, judge=file_name(name))
        output.note_judge(context.console, run, bench, local=not isinstance(model.target, RemoteModel))
        matches = [
            match
            for model_id, found in answers.items()
            for match in matches_of(bench.questions.questions, model_id, found, run)
        ]
        with Judging(options.output, run, note=context.console.note) as judging:
            todo = judging.open_matches(matches)
            output.note_cost(context.console, todo[:limit], already=len(matches) - len(todo))
            if todo and not options.dry_run and _may_spend(context, options, model):
                # One after another unless more are wanted: judges for money count requests.
                with closing(model.engine.answerer(options.places or 1)) as answerer:
                    _judge(context, judging, answerer, todo[:limit])


def _judge(context: CommandContext, judging: Judging, answerer: Answerer, matches: Sequence[Match]) -> None:
    with _kept_when_interrupted(context), StepProgress(context.console) as progress:

        def report(state: JudgeProgress) -> None:
            tokens = state.prompt_tokens + state.completion_tokens
            progress.update(state.done, state.total, _("{count} tokens").format(count=tokens))

        taken = judging.judge_all(answerer, matches, report=report)
    output.note_taken(context.console, taken, judging.path)


@contextmanager
def _kept_when_interrupted(context: CommandContext) -> Iterator[None]:
    try:
        yield
    except (InterruptedByUser, KeyboardInterrupt):
        context.console.note(_("What is done is kept; the same command goes on from there."))
        raise


def _may_spend(context: CommandContext, options: JudgeOptions, model: LoadedModel) -> bool:
    """Ask, where somebody can answer, before a server's tokens are spent."""
    if options.yes or not context.console.can_ask or not isinstance(model.target, RemoteModel):
        return True
    return context.console.confirm(_("Let {judge} judge now?").format(judge=_name_of(model)), default=True)


@mtbench_app.command("show", help=N_("Print the means and spreads beside the model card's."))
@takes(OutputOptions)
def show_command(
    ctx: typer.Context,
    options: OutputOptions,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help=N_("Folders or files of judgements; mtbench by default.")),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help=N_("The questions, where records do not tell their category.")),
    ] = None,
    model_id: Annotated[
        list[str] | None,
        typer.Option("--model-id", metavar="NAME", help=N_("Only this model (repeatable).")),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help=N_("Print a table as CSV."))] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("Draw a radar picture into this file."))
    ] = None,
) -> None:
    """Print the means and spreads beside the model card's."""
    context = prepare(ctx, options)
    if as_json and as_csv:
        raise InputError(_("--json and --csv cannot be used together."), hint="tanuki mtbench show --json")
    results = read_results(paths or [DEFAULT_FOLDER], data=data, models=model_id or [])
    for line in results.left_out:
        context.console.warn(str(line))
    if svg is not None:
        export.write_radar(svg, results.reports)
        context.console.note(_("The picture is in {path}.").format(path=svg), style="success")
    if as_json:
        context.console.write_json(export.as_json(results), indent=2)
    elif as_csv:
        context.console.write_text(export.as_csv(results))
    else:
        output.print_reports(context.console, results)


def _open_bench(options: BenchOptions) -> Bench:
    return open_bench(options.data, mini=options.mini)


def _read_record(options: BenchOptions, command: str) -> Provenance | None:
    """What ``--again`` names, if anything."""
    return read_provenance(options.again, command) if options.again else None


def _names_bench(options: BenchOptions) -> bool:
    return options.data is not None or options.mini


def _as_before(
    context: CommandContext, options: BenchOptions, before: Provenance | None
) -> tuple[CommandContext, str | None]:
    """The settings and the model reference of a run that is made again, unless options say otherwise."""
    if before is None or options.names("model"):
        return context, None
    source: ModelSource = before.models[0]
    length = context.settings.context_length or source.context_length
    return replace(context, settings=replace(context.settings, context_length=length)), source.reference


def _name_of(model: LoadedModel) -> str:
    """What the model is called in records; for a server the name that it serves it under."""
    return model.engine.info.model


def _folder_option(folder: Path) -> str:
    return "" if folder == DEFAULT_FOLDER else f" -o {shlex.quote(str(folder))}"

"""``tanuki batch``: every row of a file, answered."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from typing import Annotated

import typer
from msgspec import to_builtins

from tanuki_cli.batch.estimate import only, sample_keys
from tanuki_cli.batch.inputs import open_input
from tanuki_cli.batch.ordered import InOrder
from tanuki_cli.batch.requests import Asking, check_first
from tanuki_cli.batch.results import Outcome, record_of
from tanuki_cli.batch.rows import Row, Source, open_source
from tanuki_cli.batch.run import BatchRun, BatchState
from tanuki_cli.batch.sinks import FileSink, Sink, StreamSink
from tanuki_cli.batch.template import Template
from tanuki_cli.cli.batch_dry_run import dry_run
from tanuki_cli.cli.batch_options import BatchOptions
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import chosen_persona
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.model_source import model_source
from tanuki_cli.cli.options import takes
from tanuki_cli.cli.shapes import read_shape, schema_words
from tanuki_cli.engines.answers import AnswerForm
from tanuki_cli.errors import ExitCode, InputError, InterruptedByUser
from tanuki_cli.files import as_typed
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.prompt import guarded
from tanuki_cli.terminal.batch_progress import BatchProgress, summary

batch_app = typer.Typer(add_completion=False)

_HELP = N_(
    """Answer every row of a file.

Examples:
  tanuki batch questions.txt -o answers.jsonl
  tanuki batch articles.csv -t '次の文を一行で要約: {本文}' --csv -o summaries.csv
  tanuki batch reviews.jsonl -t '{text}' --choices 良い,悪い -o labels.jsonl
  tanuki batch requests.jsonl -m http://localhost:8000/v1 -o answers.jsonl
  tanuki batch questions.txt --dry-run

The input is lines, JSON Lines (also of OpenAI's Batch API), CSV or TSV; - is stdin.
Run again with the same -o, it goes on with what is missing."""
)


@batch_app.command(help=_HELP)
@takes(BatchOptions)
def batch(
    ctx: typer.Context,
    options: BatchOptions,
    file: Annotated[str, typer.Argument(metavar="INPUT", help=N_("The rows; - reads them from stdin."))],
) -> None:
    """Answer every row of a file."""
    context = prepare(ctx, options)
    options.check()
    asking = _asking(context, options)
    stdin = context.environment.streams.stdin.buffer
    with ExitStack() as stack:
        opened, name = stack.enter_context(open_input(str(as_typed(file)), stdin, output=options.output))
        source = open_source(opened, name=name, form=options.row_form, encoding=options.text_encoding)
        check_first(source.columns(), asking, name=name)
        if not sum(1 for _row in source.rows()):  # all of them are read: what is wrong is said now
            raise InputError(_("{name} holds no rows.").format(name=name), hint="tanuki help batch")
        model = stack.enter_context(closing(open_model(context, options, use="many")))
        if model.practice:
            context.console.note(_("豆だぬき, the practice model, answers:"), style="practice")
        if options.dry_run:
            chosen = partial(_chosen, options, source.rows)
            dry_run(context, model, asking, places=options.places, rows=chosen)
            return
        sink = _sink(context, options, source, model, asking, stack)
        _run(context, options, sink, model, asking)


def _asking(context: CommandContext, options: BatchOptions) -> Asking:
    """How rows are asked. Raises InputError for a shape or a template that cannot be used."""
    shape = read_shape(options, stdin=context.environment.streams.stdin)
    begun = guarded(options.prefill or "", name="--prefill", note=context.console.note)
    if begun and shape is not None and shape.choices:
        raise InputError(
            _("--choices and --prefill cannot be used together."), hint="tanuki batch FILE --choices A,B"
        )
    return Asking(
        template=None if options.template is None else Template.parse(options.template),
        system=context.settings.system,
        persona=chosen_persona(context),
        options=context.settings.sampling,
        form=AnswerForm(
            shape=shape,
            logprobs=options.alternatives,
            scores=shape is not None and bool(shape.choices),
            begun=begun,
        ),
        explanation=schema_words(shape) if shape is not None and options.explain_schema else "",
    )


def _sink(
    context: CommandContext,
    options: BatchOptions,
    source: Source,
    model: LoadedModel,
    asking: Asking,
    stack: ExitStack,
) -> Sink:
    """Where the answers go, open until ``stack`` is closed."""
    if options.output is None:
        console = context.console
        return StreamSink(
            source, write_json=console.write_json, write_text=console.write_text, table=options.csv
        )
    return stack.enter_context(
        FileSink(
            options.output,
            source,
            _identity(context, model, asking),
            table=options.csv,
            in_order=options.in_order,
            force=options.force,
            again=options.retry_failed,
            note=context.console.warn,
        )
    )


def _identity(context: CommandContext, model: LoadedModel, asking: Asking) -> dict[str, object]:
    """What must not change from one run to the next."""
    source = model_source(context, model)
    form, template = asking.form, asking.template
    return {
        "model": [source.name, source.engine, source.sha256, source.context_length],
        "template": None if template is None else [template.texts, template.names],
        "system": asking.system,
        "persona": asking.persona,
        **to_builtins(asking.options),
        "shape": None if form.shape is None else [form.shape.kind, form.shape.text],
        "explanation": asking.explanation,
        "logprobs": form.logprobs,
        "prefill": form.begun,
    }


def _run(
    context: CommandContext, options: BatchOptions, sink: Sink, model: LoadedModel, asking: Asking
) -> None:
    """Answer what is missing, and raise what ended it."""
    chosen = partial(_chosen, options, sink.missing)
    todo = sum(1 for _row in chosen())
    if not todo:
        context.console.note(_("Nothing is left to answer."))
        sink.finish()
        _leave(sink.failed_before)
        return

    def write(outcome: Outcome) -> None:
        sink.write(outcome.row, record_of(outcome, model.tokenizer, model=model.engine.info.model))

    ordered = InOrder(write) if options.in_order and options.output is None else None
    progress = BatchProgress(context.console, total=todo)
    with closing(model.engine.answerer(options.places)) as answerer:
        run = BatchRun(
            answerer,
            asking,
            remote=model.remote,
            write=ordered.write if ordered else write,
            report=progress.update,
        )
        try:
            with progress:
                run.run(ordered.rows(chosen()) if ordered else chosen())
        except (InterruptedByUser, KeyboardInterrupt):
            if options.output is not None:
                context.console.note(_("What is done is kept; the same command goes on from there."))
            raise
        finally:  # whatever ended it: what is done is there
            if ordered:
                ordered.flush()
            sink.finish()
            _tell(context, options, run.state)
    _leave(run.state.failed + sink.failed_before)


def _leave(failed: int) -> None:
    """End with the exit code that says whether rows failed."""
    if failed:
        raise typer.Exit(ExitCode.UNEXPECTED)


def _tell(context: CommandContext, options: BatchOptions, state: BatchState) -> None:
    """What the run did, and what of it the user should know."""
    console = context.console
    if state.guarded:
        console.note(
            _(
                "{count} line(s) in the rows look like a turn of the prompt format; "
                "a backslash was put before them."
            ).format(count=state.guarded)
        )
    if state.ignored:
        console.warn(
            _("Fields that are not known were left alone: {names}.").format(names=", ".join(state.ignored))
        )
    if state.shortened:
        console.warn(
            _("Of {count} rows the oldest messages did not fit into the context and were not sent.").format(
                count=state.shortened
            )
        )
    console.note(summary(state), style="warning" if state.failed else "success")
    if state.failed and options.output is not None:
        console.note(_("To ask those that failed again: the same command with --retry-failed"))


def _chosen(options: BatchOptions, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Those of ``rows`` that ``--sample`` and ``--limit`` leave."""
    found = rows()
    if options.tried is not None:
        found = only(found, sample_keys(rows(), options.tried))
    return islice(found, options.most)

"""``tanuki compare``: what the other forms of a model cost, on the same token ids."""

from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from tanuki_cli.cli.compare_output import print_answers, print_figures, tell_changes
from tanuki_cli.cli.completing import model_names
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import open_history
from tanuki_cli.cli.model import open_finder, open_model
from tanuki_cli.cli.options import LoadingOptions, read_count, takes
from tanuki_cli.conversation import Conversation
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.compare.answers import QUESTIONS
from tanuki_cli.evaluation.compare.job import Surroundings
from tanuki_cli.evaluation.compare.job import compare as run_comparison
from tanuki_cli.evaluation.compare.pictures import picture
from tanuki_cli.evaluation.compare.request import Request, read_record
from tanuki_cli.evaluation.compare.run import Watcher
from tanuki_cli.files import os_reason, write_atomically
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec
from tanuki_cli.terminal.step_progress import StepProgress
from tanuki_cli.text.decoding import read_text_file

compare_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """See what a quantisation costs: models beside a reference on the same tokens.

Examples:
  tanuki compare tanuki-8b:q8_0 tanuki-8b:q4_k_m tanuki-8b:q3_k_m
  tanuki compare ./f16.gguf ./q4.gguf --text novel.txt --answers 10
  tanuki compare tanuki-8b:full tanuki-8b:awq --json > result.json
  tanuki compare --again result.json

The first model is the reference. Ctrl-C keeps what is done, and the same command goes on.
What the figures mean: tanuki help evaluation"""
)
_LIMIT: Final = OptionSpec(
    key="limit", kind="integer", minimum=1, maximum=100_000_000, usual=500, help=N_("At most this many.")
)
_ANSWERS: Final = OptionSpec(
    key="answers", kind="integer", minimum=0, maximum=100_000, usual=10, help=N_("At most this many.")
)
_ANSWER_TOKENS: Final = OptionSpec(
    key="answer_tokens", kind="integer", minimum=1, maximum=100_000, usual=128, help=N_("Longest answer.")
)


@compare_app.command(help=_HELP)
@takes(LoadingOptions)
def compare(
    ctx: typer.Context,
    options: LoadingOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REFERENCE MODEL…", help=N_("Two models or more."), autocompletion=model_names
        ),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=N_("A text, chats as .jsonl, or a folder of them (repeatable).")),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help=N_("Your own saved chats."))] = False,
    limit: Annotated[
        str | None, typer.Option(metavar="N", help=N_("Score at most N tokens of each category."))
    ] = None,
    llama_chunks: Annotated[
        bool,
        typer.Option(
            "--llama-chunks", help=N_("Cut texts as llama-perplexity does: 512 tokens, second half scored.")
        ),
    ] = False,
    answers: Annotated[
        str, typer.Option(metavar="N", help=N_("Show greedy answers to N questions beside each other."))
    ] = "0",
    questions: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("Other questions, one a line."))
    ] = None,
    answer_tokens: Annotated[str, typer.Option(metavar="N", help=N_("Longest answer in tokens."))] = "128",
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help=N_("Never load two models at once; takes room on the disk."))
    ] = False,
    again: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("Repeat the comparison of a JSON result."))
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help=N_("Draw a picture of the result."))
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help=N_("Print all figures as CSV."))] = False,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
) -> None:
    """See what a quantisation costs: models beside a reference on the same tokens."""
    context = prepare(ctx, options)
    earlier = read_record(again) if again else None
    if earlier is not None and models:
        raise InputError(_("--again takes the models from its file."), hint=f"tanuki compare --again {again}")
    request = (
        earlier.request
        if earlier
        else Request(
            models=tuple(models or ()),
            text=tuple(map(str, text or ())),
            history=history,
            limit=None if limit is None else read_count(_LIMIT, limit),
            context_length=context.settings.context_length if options.names("context_length") else None,
            llama_chunks=llama_chunks,
            questions=_questions(questions, read_count(_ANSWERS, answers)),
            answer_tokens=read_count(_ANSWER_TOKENS, answer_tokens),
            one_by_one=one_by_one,
            gpu_layers=context.settings.gpu_layers,
            kv_type=context.settings.kv_type,
        )
    )
    if len(request.models) < 2:
        raise InputError(
            _("Two models are needed: a reference, and one to hold against it."),
            hint="tanuki compare tanuki-8b:q8_0 tanuki-8b:q4_k_m",
        )
    with StepProgress(context.console) as steps:
        result = run_comparison(request, _surroundings(context, options, request, _Watcher(steps)))
    if svg is not None:
        _write(svg, picture(result.candidates))
    if as_json:
        context.console.write_json(result.to_json())
    elif as_csv:
        context.console.write_text(result.to_csv())
    else:
        print_figures(context.console, result)
        print_answers(context.console, result)
    if earlier is not None:
        tell_changes(context.console, earlier, result)


class _Watcher:
    """Shows the tokens of all models as steps."""

    def __init__(self, steps: StepProgress) -> None:
        self._steps = steps
        self._model = ""
        self._done = self._total = 0

    def begin(self, model: str, *, done: int, total: int) -> None:
        """Show that ``model`` is next."""
        self._model, self._done, self._total = model, done, total
        self._steps.update(done, total, model)

    def advance(self, tokens: int) -> None:
        """Show that so many more tokens were computed."""
        self._done += tokens
        self._steps.update(self._done, self._total, self._model)


def _surroundings(
    context: CommandContext, options: LoadingOptions, request: Request, watcher: Watcher
) -> Surroundings:
    settings = replace(
        context.settings,
        context_length=request.model_context_length,
        gpu_layers=request.gpu_layers,
        kv_type=request.kv_type,
        # Both on the same library, whatever was measured of either.
        engine="llama.cpp" if context.settings.engine == "auto" else context.settings.engine,
        kv_cache_gib=0,
        tune=False,
    )
    with_settings = replace(context, settings=settings)
    return Surroundings(
        find=open_finder(with_settings, options).find,
        open_model=lambda reference: open_model(with_settings, options, use="many", reference=reference),
        conversations=lambda: _conversations(context),
        tell=context.console.note,
        watcher=watcher,
        cache=context.directories.cache,
        environ=context.environ,
    )


def _conversations(context: CommandContext) -> list[Conversation]:
    with open_history(context) as store:
        return [store.find(one.id) for one in store.list()]


def _questions(path: Path | None, count: int) -> tuple[str, ...]:
    """The first ``count`` questions of the file, or of our own; all of the file's where none is asked."""
    if path is None:
        if count > len(QUESTIONS):
            raise InputError(
                _("There are only {count} questions built in.").format(count=len(QUESTIONS)),
                hint="--questions FILE",
            )
        return QUESTIONS[:count]
    lines = [line.strip() for line in read_text_file(path).splitlines() if line.strip()]
    if not lines:
        raise InputError(_("There is no question in {path}.").format(path=path), hint="--questions FILE")
    return tuple(lines[: count or None])


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as exc:
        raise InputError(
            _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_("Check the name and the permissions."),
        ) from exc

"""``tanuki ask``: one question, one answer on stdout."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import (
    open_history,
    resumed_settings,
    starting_conversation,
    warn_history_failed,
)
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.options import OUTPUT, ChatOptions, takes
from tanuki_cli.cli.probabilities import choices_json, score_json, tokens_json
from tanuki_cli.cli.question import Question, read_question, truncate_question
from tanuki_cli.cli.shapes import ShapeOptions, check_shape, explained, read_shape
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import AnswerForm, GenerationCancelled, Token
from tanuki_cli.errors import HistoryError, InputError, InterruptedByUser, TanukiError
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.options import fold
from tanuki_cli.session import ChatSession
from tanuki_cli.terminal.answer import NoStream, describe_turn, open_answer
from tanuki_cli.text.width import cell_width, pad_cells

ask_app = typer.Typer(add_completion=False)
MAX_ALTERNATIVES: Final = 20

_HELP = N_(
    """Ask one question and print the answer.

Examples:
  tanuki ask 信楽焼のたぬきについて教えて
  git diff | tanuki ask この変更を一行で説明して
  tanuki ask -f 議事録.txt 要点を三つにまとめて
  tanuki ask --json こんにちは | jq -r .answer
  tanuki ask --choices はい,いいえ たぬきは犬の仲間ですか

Text piped in follows the question after a blank line; without a question it is the question."""
)


@dataclass(frozen=True, kw_only=True)
class AskOptions(ShapeOptions, ChatOptions):
    """What only ``tanuki ask`` takes."""

    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="PATH", help=N_("Add a text file (repeatable).")),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=N_("Encoding of piped text and files; detected by default.")),
    ] = None
    truncate: Annotated[
        bool, typer.Option("--truncate", help=N_("Cut the middle of attached text that is too long."))
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help=N_("Print one JSON object."), rich_help_panel=OUTPUT)
    ] = False
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help=N_("Print one JSON object per chunk."), rich_help_panel=OUTPUT)
    ] = False
    logprobs: Annotated[
        str | None,
        typer.Option(
            metavar="1-20",
            help=N_("With --json or --jsonl: log probabilities, with so many alternatives a token."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    score: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=N_("Answer nothing; say how likely this answer is."),
            rich_help_panel=OUTPUT,
        ),
    ] = None
    statistics: Annotated[
        bool,
        typer.Option(
            "--stats", "-v", help=N_("Print speed and token counts on stderr."), rich_help_panel=OUTPUT
        ),
    ] = False

    @property
    def machine_readable(self) -> bool:
        """Whether a program reads the answer."""
        return self.as_json or self.as_jsonl

    @property
    def alternatives(self) -> int:
        """How many alternatives to a token are asked for; 0 for no log probabilities.

        Raises InputError for a number out of range, and where nothing would show them.
        """
        if self.logprobs is None:
            return 0
        example = "tanuki ask --json --logprobs 5 …"
        if not self.machine_readable:
            raise InputError(_("--logprobs needs --json or --jsonl."), hint=example)
        try:
            number = int(self.logprobs)
        except ValueError:
            number = 0
        if not 1 <= number <= MAX_ALTERNATIVES:
            raise InputError(
                _("--logprobs must be a number from 1 to {most}.").format(most=MAX_ALTERNATIVES), hint=example
            )
        return number


@ask_app.command(help=_HELP)
@takes(AskOptions)
def ask(
    ctx: typer.Context,
    options: AskOptions,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help=N_("The question; - reads it from stdin.")),
    ] = None,
) -> None:
    """Ask one question and print the answer."""
    context = prepare(ctx, options)
    if options.as_json and options.as_jsonl:
        raise InputError(_("--json and --jsonl cannot be used together."), hint="tanuki ask --jsonl …")
    shape = read_shape(options, stdin=context.environment.streams.stdin)
    form = AnswerForm(
        shape=shape,
        logprobs=options.alternatives,
        scores=shape is not None and bool(shape.choices) and options.machine_readable,
    )
    if options.score is not None and shape is not None:
        raise InputError(
            _("--score takes an answer as it is, without a shape."), hint="tanuki ask --score TEXT …"
        )
    question = read_question(
        words or [],
        options.file or [],
        stdin=context.environment.streams.stdin,
        encoding=fold(options.encoding) if options.encoding else None,
        note=context.console.note,
    )
    if shape is not None and options.explain_schema:
        question = explained(question, shape)
    store = open_history(context)
    conversation = starting_conversation(context, options, store)
    context = replace(context, settings=resumed_settings(context, options, conversation))
    unsaved: list[HistoryError] = []
    first = [] if conversation.nodes else [*conversation.path(), Message("user", question.text)]
    with closing(open_model(context, options, first=first)) as model:
        session = ChatSession(
            model.engine,
            conversation,
            context.settings.sampling,
            form=form,
            reference=model.reference,
            store=store if context.settings.save else None,
            on_history_error=unsaved.append,
        )
        if model.practice and not options.machine_readable:
            context.console.note(_("豆だぬき, the practice model, answers:"), style="practice")
        text = _fitted(question, session, context) if options.truncate else question.text
        if options.score is not None:
            _score(context, options, session, text)
            return
        try:
            _answer(context, options, session, model, text)
        finally:
            for error in unsaved:  # not before: a warning must not break into a line of the answer
                warn_history_failed(context, error)
        if options.statistics and session.last_turn is not None:
            context.console.note(describe_turn(session.last_turn, load_s=model.load_s))


def _fitted(question: Question, session: ChatSession, context: CommandContext) -> str:
    def check(text: str) -> None:
        session.engine.plan(session.prompt_messages(Message("user", text)), session.options)

    return truncate_question(question, check, context.console.note).text


def _answer(
    context: CommandContext, options: AskOptions, session: ChatSession, model: LoadedModel, text: str
) -> None:
    """Stream the answer out.

    When all is printed and saved, raises InterruptedByUser after a Ctrl-C, and EngineError or RemoteError
    for an answer that has not the shape that was asked for.
    """
    # What a program is to read stays as it was written: Markdown would hide parts of it.
    settings = context.settings if session.form.shape is None else replace(context.settings, plain=True)
    writer = NoStream() if options.machine_readable else open_answer(context.console, settings)
    begun = False
    # Until all is printed, Ctrl-C must tear nothing.
    with session.interruptible(), closing(session.send(text)) as chunks:
        try:
            for chunk in chunks:
                writer.feed(chunk.text)
                begun = begun or bool(chunk.text)
                if options.as_jsonl and chunk.text:
                    context.console.write_json({"delta": chunk.text, **_logprobs(session, chunk.tokens)})
        except TanukiError:
            if begun:  # an answer that never began is no empty line either
                writer.interrupt()
            raise
        writer.finish()
        _announce(context, session)
        if options.machine_readable:
            context.console.write_json(_result(session, model))
    if session.last_turn is not None and session.last_turn.finish_reason == "interrupted":
        raise InterruptedByUser(_("Interrupted."))
    if session.form.shape is not None and session.last_turn is not None:
        check_shape(session.form.shape, session.last_turn, remote=model.remote)


def _announce(context: CommandContext, session: ChatSession) -> None:
    plan, turn = session.last_plan, session.last_turn
    if plan is not None and plan.dropped:
        context.console.note(
            _("The context is full: the oldest {count} messages are not sent.").format(count=plan.dropped)
        )
    if turn is not None and turn.finish_reason == "length" and session.form.shape is None:
        context.console.note(
            _("The answer reached its limit; --max-new-tokens allows longer ones, --continue goes on.")
        )


def _result(session: ChatSession, model: LoadedModel) -> dict[str, Any]:
    """The object that INTERFACE promises; times in seconds."""
    turn = session.last_turn
    assert turn is not None
    sampling = {**asdict(session.options), "seed": turn.seed}
    return {
        "id": turn.node_id,
        "conversation_id": session.conversation.id,
        "model": session.engine.info.model,
        "answer": turn.text,
        "finish_reason": turn.finish_reason,
        "usage": asdict(turn.usage),
        "timings": {
            "load_s": _rounded(model.load_s),
            "ttft_s": _rounded(turn.ttft_s),
            "tokens_per_s": _rounded(turn.tokens_per_s),
            "total_s": _rounded(turn.total_s),
        },
        "sampling": sampling,
        **_logprobs(session, turn.tokens),
        **({"choices": choices_json(turn.scores)} if turn.scores else {}),
    }


def _logprobs(session: ChatSession, tokens: Sequence[Token]) -> dict[str, Any]:
    """The log probabilities of ``tokens``, where they were asked for and the engine knows them."""
    tokenizer = session.engine.tokenizer
    if not session.form.logprobs or tokenizer is None:
        return {}
    return {"logprobs": tokens_json(tokens, tokenizer)}


def _score(context: CommandContext, options: AskOptions, session: ChatSession, text: str) -> None:
    """Say how likely the given answer is. Raises InterruptedByUser after a Ctrl-C."""
    messages = session.prompt_messages(Message("user", text))
    with session.interruptible():
        try:
            (score,) = session.engine.score(
                messages, [options.score or ""], alternatives=session.form.logprobs
            )
        except GenerationCancelled as exc:
            raise InterruptedByUser(_("Interrupted.")) from exc
    if options.machine_readable:
        context.console.write_json(
            {
                "model": session.engine.info.model,
                **score_json(score),
                **_logprobs(session, score.tokens),
            }
        )
        return
    rows = (
        (_("log probability"), f"{score.logprob:.4f}"),
        (_("perplexity"), f"{score.perplexity:.4f}"),
        (_("tokens"), str(len(score.tokens))),
    )
    width = max(cell_width(name) for name, _value in rows)
    for name, value in rows:
        context.console.write(f"{pad_cells(name, width)}  {value}\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""``tanuki ask``: one question, one answer on stdout."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from tanuki_cli.cli.ask_options import AskOptions
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import (
    open_history,
    resumed_settings,
    starting_conversation,
    warn_history_failed,
)
from tanuki_cli.cli.long_text import check_long
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.options import takes
from tanuki_cli.cli.question import Question, read_question, truncate_question
from tanuki_cli.cli.shapes import check_shape, explained, read_shape
from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.engines.answers import AnswerForm, Chunk
from tanuki_cli.engines.base import Engine, Use
from tanuki_cli.errors import HistoryError, InputError, InterruptedByUser, TanukiError
from tanuki_cli.i18n import N_, _, plural
from tanuki_cli.loading import LoadedModel
from tanuki_cli.options import fold
from tanuki_cli.prompt import with_persona
from tanuki_cli.session import ChatSession
from tanuki_cli.terminal.answer import NoStream, describe_turn, open_answer

ask_app = typer.Typer(add_completion=False)
_SLOW_LOAD_S: Final = 3.0

_HELP = N_(
    """Ask one question and print the answer.

Examples:
  tanuki ask 信楽焼のたぬきについて教えて
  git diff | tanuki ask この変更を一行で説明して
  tanuki ask -f 議事録.txt 要点を三つにまとめて
  tanuki ask --json こんにちは | jq -r .answer
  tanuki ask --choices はい,いいえ たぬきは犬の仲間ですか

Text piped in follows the question after a blank line; without a question it is the question.
Files come before the question: the next question about them then starts sooner."""
)


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
    form = _form(context, options)
    question: Question | None = None
    if options.continue_answer:
        options = _going_on(options, words or [])
    else:
        question = _question(context, options, words or [], form)
    check_long(options, question, with_others=_not_long(options))
    store = open_history(context)
    conversation = starting_conversation(context, options, store)
    context = replace(context, settings=resumed_settings(context, options, conversation))
    if not (options.machine_readable or options.score or form.shape or context.settings.plain):
        context.console.measure_terminal()  # before keys are typed ahead: those are the shell's
    unsaved: list[HistoryError] = []
    first = [] if question is None or options.long else _first_messages(conversation, question)
    use: Use = "many" if options.chunked else "once"
    opened = open_model(context, options, first=first, use=use)
    with closing(opened) as model, _engine(model, options) as engine:
        session = ChatSession(
            engine,
            conversation,
            context.settings.sampling,
            form=form,
            kind="question",
            reference=model.reference,
            store=store if context.settings.save else None,
            on_history_error=unsaved.append,
        )
        if model.practice and not options.machine_readable:
            context.console.note(_("豆だぬき, the practice model, answers:"), style="practice")
        try:
            _reply(context, options, session, model, question)
        finally:
            for error in unsaved:  # not before: a warning must not break into a line of the answer
                warn_history_failed(context, error)
        _suggest_keeping(context, options, model)
        if options.statistics and session.last_turn is not None:
            context.console.note(describe_turn(session.last_turn, load_s=model.load_s))


def _first_messages(conversation: Conversation, question: Question) -> list[Message]:
    """The messages that are answered first, where they are likely the only ones; empty where they are not."""
    if conversation.nodes:
        return []
    messages = [*conversation.path(), Message("user", question.text)]
    return with_persona(messages, conversation.settings.persona)


@contextmanager
def _engine(model: LoadedModel, options: AskOptions) -> Iterator[Engine]:
    """What answers: the parts of a long text are answered together, where that is quicker."""
    if not options.chunked:
        yield model.engine
        return
    from tanuki_cli.engines.answering import AnsweringEngine  # most questions are one

    with closing(model.engine.answerer()) as answerer:
        yield AnsweringEngine(model.engine, answerer)


def _reply(
    context: CommandContext,
    options: AskOptions,
    session: ChatSession,
    model: LoadedModel,
    question: Question | None,
) -> None:
    """Answer ``question``, or say how likely an answer to it is; without one, the last answer goes on."""
    if question is None:
        _answer(context, options, session, model, session.continue_())
        return
    text = _fitted(context, options, session, question)
    if options.score is None:
        _answer(context, options, session, model, session.send(text, typed=question.typed))
        return
    from tanuki_cli.cli.probabilities import print_score  # most questions are answered

    print_score(context, session, text, options.score, as_json=options.machine_readable)


def _suggest_keeping(context: CommandContext, options: AskOptions, model: LoadedModel) -> None:
    """Say how a model that took long to load stays loaded, where a person reads it and it may stay."""
    settings = context.settings
    may_stay = settings.save and not context.debug and not options.trust_remote_code
    loaded_here = not model.remote and not model.practice
    worth_it = settings.keep_alive == "0" and model.load_s > _SLOW_LOAD_S
    if may_stay and loaded_here and worth_it and context.console.err_is_terminal:
        context.console.note(
            _(
                "Loading took {seconds:.0f} s. To keep the model ready: tanuki config set keep_alive 10m"
            ).format(seconds=model.load_s)
        )


def _form(context: CommandContext, options: AskOptions) -> AnswerForm:
    """What is asked of the answer. Raises InputError for what cannot be asked together."""
    if options.as_json and options.as_jsonl:
        raise InputError(_("--json and --jsonl cannot be used together."), hint="tanuki ask --jsonl …")
    shape = read_shape(options, stdin=context.environment.streams.stdin)
    form = AnswerForm(
        shape=shape,
        logprobs=options.alternatives,
        scores=shape is not None and bool(shape.choices) and options.machine_readable,
        begun=options.beginning(context.console.note),
    )
    if form.begun and shape is not None and shape.choices:
        raise InputError(
            _("--choices and --prefill cannot be used together."), hint="tanuki ask --choices A,B …"
        )
    if options.score is not None and shape is not None:
        raise InputError(
            _("--score takes an answer as it is, without a shape."), hint="tanuki ask --score TEXT …"
        )
    return form


def _question(
    context: CommandContext, options: AskOptions, words: Sequence[str], form: AnswerForm
) -> Question:
    """What is asked. Raises InputError if there is no question, or a part of it is not text."""
    question = read_question(
        words,
        options.file or [],
        stdin=context.environment.streams.stdin,
        encoding=fold(options.encoding) if options.encoding else None,
        note=context.console.note,
    )
    return explained(question, form.shape) if form.shape is not None and options.explain_schema else question


def _not_long(options: AskOptions) -> str:
    """The option that is given, and about texts that fit; empty for none."""
    return "--truncate" if options.truncate else "--score" if options.score is not None else ""


def _going_on(options: AskOptions, words: Sequence[str]) -> AskOptions:
    """The options of ``--continue-answer``: without an id it is the last conversation that goes on.

    Raises InputError for a question, and for options that are about one.
    """
    about_questions = {
        "--file": options.file,
        "--prefill": options.prefill,
        "--score": options.score,
        "--explain-schema": options.explain_schema,
    }
    if words or any(about_questions.values()):
        raise InputError(
            _("--continue-answer takes no question, and none of: {options}.").format(
                options=", ".join(about_questions)
            ),
            hint="tanuki ask --continue-answer",
        )
    return options.changed({"continue_last": options.resume is None})


def _fitted(context: CommandContext, options: AskOptions, session: ChatSession, question: Question) -> str:
    """The question as it is sent: as it is, or made to fit into the context as the options say."""
    if options.long:
        from tanuki_cli.cli.long_question import long_question  # most texts fit

        return long_question(context, options, session, question, as_jsonl=options.as_jsonl)
    if not options.truncate:
        return question.text

    def check(text: str) -> None:
        session.engine.plan(session.prompt_messages(Message("user", text)), session.options)

    return truncate_question(question, check, context.console.note).text


def _answer(
    context: CommandContext,
    options: AskOptions,
    session: ChatSession,
    model: LoadedModel,
    chunks: Generator[Chunk, None, None],
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
    with session.interruptible(), closing(chunks):
        try:
            for chunk in chunks:
                if chunk.text:  # nothing is no frame, after which the next one would have to wait
                    writer.feed(chunk.text)
                begun = begun or bool(chunk.text)
                if options.as_jsonl and chunk.text:
                    from tanuki_cli.cli.results import logprobs_json  # only programs read them

                    tokens = chunk.tokens if chunk.plan is None else ()  # not those it began with
                    context.console.write_json({"delta": chunk.text, **logprobs_json(session, tokens)})
        except TanukiError:
            if begun:  # an answer that never began is no empty line either
                writer.interrupt()
            raise
        writer.finish()
        _announce(context, session)
        if options.machine_readable:
            from tanuki_cli.cli.results import result_json

            context.console.write_json(result_json(session, model))
    if session.last_turn is not None and session.last_turn.finish_reason == "interrupted":
        raise InterruptedByUser(_("Interrupted."))
    if session.form.shape is not None and session.last_turn is not None:
        check_shape(session.form.shape, session.last_turn, remote=model.remote)


def _announce(context: CommandContext, session: ChatSession) -> None:
    plan, turn = session.last_plan, session.last_turn
    if plan is not None and plan.dropped:
        context.console.note(
            plural(
                plan.dropped,
                "No more fits: the oldest message is left out.",
                _("No more fits: the oldest {count} messages are left out."),
            ).format(count=plan.dropped)
        )
    if turn is not None and turn.finish_reason == "length" and session.form.shape is None:
        context.console.note(
            _(
                "The answer reached its limit: tanuki ask --continue-answer goes on, "
                "--max-new-tokens allows longer ones."
            )
        )

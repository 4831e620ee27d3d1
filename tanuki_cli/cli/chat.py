"""``tanuki chat``: a conversation, at a prompt or line by line from a script."""

from collections.abc import Iterator
from typing import BinaryIO, ClassVar, Final

import typer
from msgspec.structs import replace

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import open_history, resumed_settings, starting_conversation
from tanuki_cli.cli.first_model import open_first_model
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.options import ChatOptions, Scopes, takes
from tanuki_cli.engines.answers import AnswerForm
from tanuki_cli.errors import ClosedPipeError, InterruptedByUser, TanukiError
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.settings.personas import PersonaStore
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.commands import as_message, is_command, run_command
from tanuki_cli.terminal.first_run.welcome import greet
from tanuki_cli.terminal.typing_ahead import hold_typing
from tanuki_cli.text.decoding import decode_text

chat_app = typer.Typer(add_completion=False)

_HELP = N_(
    """Talk with the model, with history.

Examples:
  tanuki chat -m mame
  tanuki chat --continue
  printf 'こんにちは\\nあなたは誰?\\n' | tanuki chat

/help lists the commands and keys. Without a terminal on stdin every line is one turn."""
)
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


class PromptOptions(ChatOptions):
    """What concerns the prompt."""

    scopes: ClassVar[Scopes] = ("prompt",)


@chat_app.command(help=_HELP)
@takes(PromptOptions)
def chat(ctx: typer.Context, options: PromptOptions) -> None:
    """Talk with the model, with history."""
    context = prepare(ctx, options)
    history = open_history(context)
    conversation = starting_conversation(context, options, history)
    context = replace(context, settings=resumed_settings(context, options, conversation))

    def open_by_reference(reference: str) -> LoadedModel:
        return open_model(context, options, use="chat", reference=reference)

    # From here on what is typed waits for the prompt instead of being echoed between the first lines.
    typed = context.console.typed
    typed.keep_waiting()
    with hold_typing(context.environment.streams.stdin), context.console.mark_pastes():
        typed.keep_waiting(just_held=True)
        model, download = open_first_model(context, options)
        chat = Chat(
            console=context.console,
            settings=context.settings,
            history=history,
            model=model,
            conversation=conversation,
            open_model=open_by_reference,
            configured=context.configured.sampling,
            download=download,
            personas=PersonaStore(context.directories.personas),
            form=AnswerForm(begun=options.beginning(context.console.note)),
        )
        try:
            _run(chat, context)
        finally:
            if chat.download is not None:
                chat.download.stop()
            chat.model.close()


def _run(chat: Chat, context: CommandContext) -> None:
    if context.console.in_is_terminal:
        _talk(chat, context)
        return
    if chat.model.practice:
        context.console.note(_("豆だぬき, the practice model, answers:"), style="practice")
    _run_script(chat, context.environment.streams.stdin.buffer)


def _talk(chat: Chat, context: CommandContext) -> None:
    # prompt_toolkit is needed only here: a script must not wait for its import.
    from tanuki_cli.terminal.chat.repl import Repl

    history_file = context.directories.input_history_file
    greet(chat, first_time=not history_file.exists())
    Repl(chat, history_file=history_file).run()


def _run_script(chat: Chat, stdin: BinaryIO) -> None:
    """Every line is a turn. Raises the first error, or InterruptedByUser: a script must not go on."""
    for number, line in enumerate(_lines(stdin), 1):
        try:
            _run_line(chat, line)
        except (ClosedPipeError, InterruptedByUser):
            raise
        except TanukiError:
            chat.console.note(_("Stopped at line {number}; no line after it was sent.").format(number=number))
            raise
        if chat.leaving:
            return


def _run_line(chat: Chat, line: str) -> None:
    if is_command(line):
        run_command(chat, line)
    elif line.strip():
        chat.ask(as_message(line))
    turn = chat.session.last_turn
    if turn is not None and turn.finish_reason == "interrupted":
        raise InterruptedByUser(_("Interrupted."))


def _lines(stdin: BinaryIO) -> Iterator[str]:
    """Lines as they arrive, each decoded on its own; UTF-16 is read whole."""
    name = _("The standard input")
    first = stdin.readline()
    if first.startswith(_UTF16_BOMS):
        yield from decode_text(first + stdin.read(), name=name).splitlines()
        return
    line = first
    while line:
        yield decode_text(line, name=name).rstrip("\n")
        line = stdin.readline()

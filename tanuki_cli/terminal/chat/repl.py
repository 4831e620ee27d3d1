"""The prompt of ``tanuki chat``: keys, completion, status line.

prompt_toolkit keeps the real cursor at the place of typing, so that an input method composes there.
"""

import asyncio
import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import (
    Condition,
    completion_is_selected,
    has_completions,
    is_searching,
    vi_navigation_mode,
)
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.styles import Style

from tanuki_cli.errors import ClosedPipeError, InputError, InterruptedByUser, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible, is_terminated, on_interrupt
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.commands import as_message, is_command, run_command
from tanuki_cli.terminal.chat.completion import ChatCompleter
from tanuki_cli.terminal.chat.editing import editing_keys
from tanuki_cli.terminal.chat.farewell import Farewell
from tanuki_cli.terminal.chat.graphemes import GraphemeProcessor, StandIns, keep_out_of_graphemes
from tanuki_cli.terminal.chat.input_history import open_input_history
from tanuki_cli.terminal.chat.input_search import speak_in_search
from tanuki_cli.terminal.chat.leaving import WITHIN_S, LeavingTwice
from tanuki_cli.terminal.chat.plain_prompt import PlainPrompt
from tanuki_cli.terminal.chat.status_line import status_line
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.editor import edit_text
from tanuki_cli.terminal.first_run.takeover import may_leave, take_over
from tanuki_cli.terminal.prompt_typing import PromptTyping
from tanuki_cli.terminal.typing_ahead import hold_typing
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.text.width import truncate_cells

_STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "bottom-toolbar": "noreverse",
        "toolbar": "fg:ansibrightblack",
        "toolbar.practice": "fg:ansimagenta",
        "toolbar.notice": "fg:ansired",
        "auto-suggestion": "fg:ansibrightblack",
    }
)


class Repl:
    """Reads messages and commands until the user leaves."""

    def __init__(self, chat: Chat, *, history_file: Path) -> None:
        self._chat = chat
        self._twice = LeavingTwice()
        self._clearing = False
        self._farewell = Farewell(chat.console)
        self._plain = PlainPrompt(chat.console) if _is_dumb(chat.console) else None
        self._stand_ins = StandIns(ambiguous=chat.console.ambiguous_width)
        vi = chat.settings.editing_mode == "vi"
        self._prompt: PromptSession[str] = PromptSession(
            message=[("class:prompt", "> ")],
            multiline=True,
            prompt_continuation="  ",
            key_bindings=merge_key_bindings([editing_keys(), self._keys()]),
            input_processors=[GraphemeProcessor(self._stand_ins)],
            completer=ChatCompleter(chat, draw=self._stand_ins.replace),
            complete_while_typing=Condition(self._is_typing_command),
            auto_suggest=AutoSuggestFromHistory(),
            history=open_input_history(
                history_file, keeps=lambda: chat.session.saving and not self._clearing
            ),
            bottom_toolbar=self._toolbar,
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            cursor=ModalCursorShapeConfig() if vi else None,
            style=_STYLE,
            color_depth=None if chat.console.out_has_color else ColorDepth.DEPTH_1_BIT,
            include_default_pygments_style=False,
            enable_suspend=True,
            output=DummyOutput() if self._plain else _prompt_output(chat.console),
        )
        self._prompt.default_buffer.on_text_changed += lambda _buffer: self._twice.forget()
        self._prompt.app.after_render += self._drawn
        self._prompt.default_buffer.on_cursor_position_changed += keep_out_of_graphemes(
            self._prompt.default_buffer
        )
        speak_in_search(self._prompt)
        self._typing = PromptTyping(chat.console.typed, self._prompt.input)
        self._stand_ins.draw_to(self._prompt.output)

    def run(self) -> None:
        """Until /exit, Ctrl-D or Ctrl-C twice. The typing is held (:func:`hold_typing`)."""
        # One handler for all of it: nothing is installed and removed around the prompt.
        with on_interrupt(self._signalled):
            self._loop()
            while not is_terminated() and not may_leave(self._chat):
                self._loop()

    def _loop(self) -> None:
        while not self._chat.leaving and not is_terminated():
            take_over(self._chat)
            try:
                text = self._read()
            except EOFError:
                return
            self._chat.notice = ""
            self._twice.forget()  # an empty input has changed no text
            if text.strip():
                # Held again: a shell that had the terminal meanwhile (Ctrl-Z) leaves it as it likes it.
                with hold_typing(self._chat.console.streams.stdin), self._chat.console.mark_pastes():
                    decision = self._farewell.decide(text)
                    self._chat.leaving |= decision == "leave"
                    if decision != "send":
                        continue
                    if not is_command(text):
                        take_over(self._chat, sending=True)  # it may have come while this was typed
                    handle_input(self._chat, text)

    def _read(self) -> str:
        """The next input. Raises EOFError when the user leaves."""
        if self._plain is not None:
            self._chat.session.forget_interrupt()
            return self._plain.read()
        default, self._chat.next_input = self._chat.next_input, ""
        # While a download runs, the status line shows how far it is.
        refresh_s = 1.0 if self._chat.download else 0.0
        try:
            with self._prompt.input.raw_mode():  # from here Ctrl-C is a key
                if is_terminated():
                    raise EOFError
                # One that came as a signal was meant for the answer, which has ended.
                self._chat.session.forget_interrupt()
                self._typing.give()
                text = self._prompt.prompt(default=default, handle_sigint=False, refresh_interval=refresh_s)
        except EOFError:
            self._typing.take_back()  # whether to leave may be asked
            raise
        # From here it is a signal again; one that came as a key after Enter waits among what was typed.
        if self._typing.take_back(and_read=True):
            self._chat.session.interrupt()
        return text

    def _signalled(self) -> None:
        """In the signal handler: stop the answer, or let an open prompt do what Ctrl-C does there."""
        self._chat.session.interrupt()
        loop = self._prompt.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._press_interrupt)

    def _press_interrupt(self) -> None:
        app = self._prompt.app
        if not app.is_running or app.is_done:  # the input is on its way, and its answer is meant
            return
        if is_terminated():
            app.exit(exception=EOFError)
            return
        self._chat.session.forget_interrupt()
        app.key_processor.send_sigint()

    def _clear_or_leave(self, event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            # The arrow key brings it back; it was not sent, so no file keeps it.
            self._clearing = True
            event.current_buffer.reset(append_to_history=True)
            self._clearing = False
        elif self._twice.press():
            event.app.exit(exception=EOFError)

    def _drawn(self, app: Application[str]) -> None:
        if self._twice.shown():
            asyncio.get_running_loop().call_later(WITHIN_S, app.invalidate)

    def _edit(self, event: KeyPressEvent) -> None:
        buffer = event.current_buffer

        def edit() -> None:
            try:
                text = edit_text(buffer.text)
            except InputError as error:
                self._chat.notice = error.message
            else:
                if text is not None:
                    buffer.document = Document(text)

        run_in_terminal(edit)

    def _is_typing_command(self) -> bool:
        text = self._prompt.default_buffer.text
        return is_command(text) and "\n" not in text

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        sends = self._chat.settings.enter == "send"

        def send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        def break_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add(Keys.Enter, filter=has_completions & completion_is_selected)
        def take_completion(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None

        plain = ~(has_completions & completion_is_selected)
        # A slash command is one line: Enter sends it under either policy.
        command = Condition(self._is_typing_command)
        typing = ~is_searching  # in a search Enter takes what was found
        keys.add(Keys.Enter, filter=typing & (plain if sends else plain & command))(send)
        keys.add(Keys.Escape, Keys.Enter, filter=typing)(break_line if sends else send)
        keys.add(Keys.ControlJ, filter=typing)(break_line)

        keys.add(Keys.ControlX, Keys.ControlE, filter=typing)(self._edit)
        keys.add("v", filter=vi_navigation_mode)(self._edit)
        keys.add(Keys.ControlC, filter=typing)(self._clear_or_leave)
        keys.add(Keys.SIGINT)(self._clear_or_leave)
        return keys

    def _toolbar(self) -> StyleAndTextTuples:
        width = self._prompt.output.get_size().columns
        if self._twice.asks:
            return [("class:toolbar", truncate_cells(_("Press Ctrl-C again to leave."), width))]
        if self._chat.notice:
            notice = truncate_cells(sanitize_line(self._chat.notice), width)
            return [("class:toolbar.notice", self._stand_ins.replace(notice))]
        style = "class:toolbar.practice" if self._chat.model.practice else "class:toolbar"
        return [(style, self._stand_ins.replace(status_line(self._chat, width=width)))]


def _prompt_output(console: Console) -> Output:
    """Where the prompt is drawn: with the answers in a pipe (``tanuki chat | tee log``) on stderr, and with
    both elsewhere on the terminal that is typed on.
    """
    if console.out_is_terminal or console.err_is_terminal:
        return create_output(always_prefer_tty=True)
    terminal = open(os.ttyname(console.streams.stdin.fileno()), "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return create_output(terminal)


def _is_dumb(console: Console) -> bool:
    return console.out_is_terminal and not console.out_can_move_cursor


def handle_input(chat: Chat, text: str) -> None:
    """Run a command or send a message. Errors are shown; only a closed output ends the chat."""
    try:
        if is_command(text):
            with interruptible():
                if chat.session.interrupted:  # between Enter and here
                    raise KeyboardInterrupt
                run_command(chat, text)
        else:
            chat.ask(as_message(text))
    except ClosedPipeError:
        raise
    except (KeyboardInterrupt, InterruptedByUser):
        chat.console.note(_("Interrupted."))
    except TanukiError as error:
        chat.console.error(error)
        # A long text is back in the input and may have pushed the error off the screen.
        chat.notice = error.message if chat.next_input else ""
        if chat.session.unanswered is not None and not chat.next_input:
            chat.console.note(_("/retry asks the question again."))

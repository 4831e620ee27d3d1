"""The prompt of ``tanuki chat``: keys, completion, status line.

prompt_toolkit keeps the real cursor at the place of typing, so that an input method composes there.
"""

import os
import time
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import (
    Condition,
    completion_is_selected,
    has_completions,
    is_done,
    is_searching,
)
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.styles import Style

from tanuki_cli.errors import ClosedPipeError, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import interruptible, on_interrupt
from tanuki_cli.terminal.chat import Chat
from tanuki_cli.terminal.commands import is_command, run_command
from tanuki_cli.terminal.completion import ChatCompleter
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.sanitize import sanitize, sanitize_line
from tanuki_cli.terminal.takeover import may_leave, take_over, with_download
from tanuki_cli.terminal.typing_ahead import hold_typing, typing_waits
from tanuki_cli.terminal.width import cell_width, truncate_cells

_TWICE_WITHIN_S: Final = 2.0
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
        self._leaves_until = 0.0
        self._accepted = ""
        vi = chat.settings.editing_mode == "vi"
        self._prompt: PromptSession[str] = PromptSession(
            message=[("class:prompt", "> ")],
            multiline=True,
            prompt_continuation="  ",
            key_bindings=self._keys(),
            completer=ChatCompleter(chat),
            complete_while_typing=Condition(self._is_typing_command),
            auto_suggest=AutoSuggestFromHistory(),
            history=open_input_history(history_file),
            bottom_toolbar=self._toolbar,
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            cursor=ModalCursorShapeConfig() if vi else None,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            style=_STYLE,
            color_depth=None if chat.console.out_has_color else ColorDepth.DEPTH_1_BIT,
            include_default_pygments_style=False,
            # With the answers in a pipe (tanuki chat | tee log) the prompt goes to stderr.
            # A dumb terminal gets prompt_toolkit's plain prompt, which must choose its output itself.
            output=None if _is_dumb(chat.console) else create_output(always_prefer_tty=True),
        )

    def run(self) -> None:
        """Until /exit, Ctrl-D or Ctrl-C twice."""
        # Between the prompt and an answer, too, Ctrl-C must not end the chat.
        with on_interrupt(self._chat.interrupt), hold_typing(self._chat.console.streams.stdin):
            self._loop()
            while not may_leave(self._chat):
                self._loop()

    def _loop(self) -> None:
        while not self._chat.leaving:
            try:
                self._chat.await_input()
                take_over(self._chat)
                text = self._read()
            except KeyboardInterrupt:
                if time.monotonic() < self._leaves_until and not typing_waits(
                    self._chat.console.streams.stdin
                ):
                    return
                self._leaves_until = time.monotonic() + _TWICE_WITHIN_S
                self._chat.console.note(_("Press Ctrl-C again to leave."))
                continue
            except EOFError:
                return
            self._chat.notice = ""
            if text.strip():
                if not is_command(text):
                    take_over(self._chat)  # it may have come while this was typed
                handle_input(self._chat, text)

    def _read(self) -> str:
        default, self._chat.next_input = self._chat.next_input, ""
        self._prompt.default_buffer.on_text_changed += self._disarm
        self._accepted = ""
        try:
            # While a download runs, the status line shows how far it is.
            refresh_s = 1.0 if self._chat.download else 0.0
            return self._prompt.prompt(default=default, refresh_interval=refresh_s)
        except KeyboardInterrupt:
            if not self._accepted:
                # A signal overtakes the keys before it: what was typed goes on in the next prompt.
                self._chat.next_input = self._prompt.default_buffer.text
                raise
            # It came after Enter: the message was sent, and its answer is stopped.
            self._chat.interrupt()
            return self._accepted
        finally:
            self._prompt.default_buffer.on_text_changed -= self._disarm

    def _disarm(self, _buffer: object) -> None:
        """Who types on does not want to leave."""
        self._leaves_until = 0.0

    def _is_typing_command(self) -> bool:
        text = self._prompt.default_buffer.text
        return is_command(text) and "\n" not in text

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        sends = self._chat.settings.enter == "send"

        def send(event: KeyPressEvent) -> None:
            self._accepted = event.current_buffer.text
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

        @keys.add(Keys.ControlX, Keys.ControlE, filter=typing)
        def edit(event: KeyPressEvent) -> None:
            event.current_buffer.open_in_editor(validate_and_handle=False)

        @keys.add(Keys.ControlC, filter=typing & ~is_done)
        def clear_or_interrupt(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

        @keys.add(Keys.SIGINT)
        def signalled(event: KeyPressEvent) -> None:
            if not event.app.is_done:  # after Enter the message is on its way already
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")
            else:
                self._chat.interrupt()

        return keys

    def _toolbar(self) -> StyleAndTextTuples:
        width = self._prompt.output.get_size().columns
        if self._chat.notice:
            return [("class:toolbar.notice", truncate_cells(sanitize_line(self._chat.notice), width))]
        style = "class:toolbar.practice" if self._chat.model.practice else "class:toolbar"
        return [(style, truncate_cells(status_line(self._chat, width=width), width))]


def _is_dumb(console: Console) -> bool:
    return console.out_is_terminal and not console.out_can_move_cursor


def status_line(chat: Chat, *, width: int) -> str:
    """Model, context used and left, speed, title; the least important parts go first when narrow."""
    info = chat.model.engine.info
    name = _("{model} (practice)").format(model=info.model) if chat.model.practice else info.model
    limit = chat.model.engine.context_length
    used = chat.context_tokens() or 0
    parts = [sanitize(name), f"{used}/{limit}"]
    if (left := chat.characters_left()) is not None:
        parts[-1] = _("{tokens} (about {count} characters left)").format(tokens=parts[-1], count=left)
    turn = chat.session.last_turn
    if turn is not None and turn.tokens_per_s is not None:
        parts.append(_("{speed:.1f} tokens/s").format(speed=turn.tokens_per_s))
    if chat.attachments:
        parts.append(_("{count} attached").format(count=len(chat.attachments)))
    parts = with_download(chat, parts, width=width)
    if chat.conversation.title:
        parts.append(sanitize(chat.conversation.title))
    while len(parts) > 1 and cell_width(" · ".join(parts)) > width:
        parts.pop()
    return " · ".join(parts)


def handle_input(chat: Chat, text: str) -> None:
    """Run a command or send a message. Errors are shown; only a closed output ends the chat."""
    try:
        if is_command(text):
            with interruptible():
                run_command(chat, text)
        else:
            chat.ask(text.removeprefix("/") if text.startswith("//") else text)
    except ClosedPipeError:
        raise
    except KeyboardInterrupt:
        chat.console.note(_("Interrupted."))
    except TanukiError as error:
        chat.console.error(error)
        # A long text is back in the input and may have pushed the error off the screen.
        chat.notice = error.message if chat.next_input else ""
        if chat.session.unanswered is not None and not chat.next_input:
            chat.console.note(_("/retry asks the question again."))


def open_input_history(path: Path) -> History:
    """Past input, readable by its owner only; kept in memory where the file cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))

"""A chat on a terminal or in a script: shows turns, knows nothing of keys.

The slash commands (:mod:`~tanuki_cli.terminal.chat.commands`) act on a :class:`Chat`; the prompt
(:mod:`~tanuki_cli.terminal.chat.repl`) and the script reader feed it.
"""

from collections.abc import Callable, Generator
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Chunk, PromptPlan
from tanuki_cli.errors import (
    HistoryError,
    InputError,
    PromptTooLongError,
    TanukiError,
)
from tanuki_cli.history import HistoryStore
from tanuki_cli.i18n import _, plural
from tanuki_cli.loading import LoadedModel
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.session import ChatSession
from tanuki_cli.settings.personas import PersonaStore
from tanuki_cli.settings.values import Settings, in_range
from tanuki_cli.terminal.answer import describe_turn, open_answer
from tanuki_cli.terminal.chat.meter import ContextMeter
from tanuki_cli.terminal.chat.no_model import NoModel, without_model
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.first_run.background_pull import BackgroundPull


class Attachment(Struct, frozen=True, kw_only=True):
    """What goes with the next message: ``text`` as it is sent, ``name`` as it is shown.

    A ``long`` one is sent in parts if it has to be; its text is what stands in the file.
    """

    name: str
    text: str
    long: bool = False


class Chat:
    """One run of ``tanuki chat``: a session, a model that may be changed, and the screen.

    ``open_model`` loads a model by reference; it may ask and download. ``download`` brings the model that
    is to take over (:mod:`~tanuki_cli.terminal.first_run.takeover`). ``configured`` are the sampling options
    without this command line's, to which ``/set KEY -`` goes back; ``form`` is asked of every answer.
    ``next_input`` is text to be edited before it is sent (when a message was too long); ``notice`` stands
    in the status line until the next input; ``listed`` are the ids that /resume has numbered.
    """

    def __init__(
        self,
        *,
        console: Console,
        settings: Settings,
        history: HistoryStore,
        model: LoadedModel,
        conversation: Conversation,
        open_model: Callable[[str], LoadedModel],
        personas: PersonaStore,
        configured: SamplingOptions | None = None,
        download: BackgroundPull | None = None,
        form: AnswerForm = PLAIN,
    ) -> None:
        self.console = console
        self.settings = settings
        self.configured = configured or settings.sampling
        self.history = history
        self.personas = personas
        self.model = model
        self.next_input = ""
        self.notice = ""
        self.attachments: list[Attachment] = []
        self.show_statistics = False
        self.leaving = False
        self.listed: dict[int, str] = {}
        self.download = download
        self._open_model = open_model
        self._first_model = model
        self._announced_dropped = 0
        self._answering = False
        self._unsaved: list[HistoryError] = []
        self.session = ChatSession(
            model.engine,
            conversation,
            settings.sampling,
            form=form,
            reference=model.reference,
            store=history if settings.save else None,
            on_history_error=self._history_failed,
        )
        self.meter = ContextMeter(self.session)

    @property
    def model_was_chosen(self) -> bool:
        """Whether the user has changed the model since the chat began."""
        return self.model is not self._first_model

    @property
    def conversation(self) -> Conversation:
        """The conversation that the next message goes to."""
        return self.session.conversation

    def ask(self, text: str) -> None:
        """Send ``text`` with what was attached, and show the answer.

        Raises the errors of :meth:`ChatSession.send`; the text is then ready to be edited.
        """
        try:
            self._show(self.session.send(self._with_attachments(text), typed=text))
        except PromptTooLongError as error:
            self.next_input = text
            raise InputError(
                error.message,
                hint=_("To have it read in parts: /file -, then /file --chunked FILE")
                if self.attachments
                else _("Shorten it, or leave less room for the answer: /set max_new_tokens 256"),
            ) from error
        self.attachments.clear()

    def _with_attachments(self, text: str) -> str:
        """``text`` after what was attached; about long ones that do not fit, what combines the answers about
        their parts, which are asked for here. Raises InterruptedByUser at Ctrl-C then."""
        parts = [*(attachment.text for attachment in self.attachments if not attachment.long), text]
        question = "\n\n".join(part for part in parts if part)
        long = {attachment.name: attachment.text for attachment in self.attachments if attachment.long}
        if not long:
            return question
        from tanuki_cli.terminal.chat.long_files import question_about  # most files fit

        try:
            return question_about(self.console, self.session, question, long)
        except TanukiError:
            self.next_input = text
            raise

    def retry(self) -> None:
        """Answer the last question again. Raises InputError if there is none."""
        self._show(self.session.regenerate())

    def go_on(self) -> None:
        """Let an answer that was cut go on. Raises InputError if there is none."""
        self._show(self.session.continue_())

    def _show(self, chunks: Generator[Chunk, None, None]) -> None:
        """Stream an answer to the screen, then say why it ended if that is not plain."""
        writer = open_answer(self.console, self.settings)
        begun = False
        self._answering = True
        try:
            with closing(chunks):
                for chunk in chunks:
                    if chunk.plan is not None:
                        self._announce(chunk.plan)
                        self._show_waiting(True)
                    if chunk.text:
                        if not begun:
                            self._show_waiting(False)
                            begun = True
                        writer.feed(chunk.text)
        except BaseException:
            self._end(writer.interrupt if begun else None)
            raise
        self._end(writer.finish if begun else None)
        self._after_turn()

    def _end(self, end: Callable[[], None] | None) -> None:
        self._answering = False
        if end is None:
            self._show_waiting(False)
        else:
            end()
            if self.console.out_is_terminal:
                self.console.write("\n")  # air between the turns; a script's output has none
        for error in self._unsaved:
            self._history_failed(error)
        self._unsaved.clear()

    def _show_waiting(self, waiting: bool) -> None:
        """A mark on the answer's line while the prompt is processed; it is gone when text comes."""
        if self.console.err_can_move_cursor and self.console.out_is_terminal:
            self.console.streams.stderr.write("\r…" if waiting else "\r\x1b[K")
            self.console.streams.stderr.flush()

    def _announce(self, plan: PromptPlan) -> None:
        if plan.dropped > self._announced_dropped:
            self.console.note(
                plural(
                    plan.dropped,
                    "No more fits: the oldest message is left out. /context shows the rest.",
                    _("No more fits: the oldest {count} messages are left out. /context shows the rest."),
                ).format(count=plan.dropped)
            )
        self._announced_dropped = plan.dropped

    def _after_turn(self) -> None:
        turn = self.session.last_turn
        if turn is None:
            return
        if turn.finish_reason == "interrupted" and turn.node_id is not None:
            self.console.note(_("Stopped. /continue goes on, /retry answers again."))
        elif turn.finish_reason == "interrupted":
            self.console.note(_("Stopped. /retry answers again."))
        elif turn.ttft_s is None:
            self.console.note(_("The model answered with nothing. /retry answers again."))
        elif turn.finish_reason == "length":
            self.console.note(
                _("The answer reached its limit: /continue goes on; longer ones: /set max_new_tokens N")
            )
        if self.show_statistics:
            self.console.note(describe_turn(turn))

    def change_model(self, reference: str) -> None:
        """Load another model and go on with the same conversation.

        The old model is freed first: two may not fit. If the new one cannot be loaded, the old one
        is loaded again; where that fails too, there is none until the next change. Raises what
        ``open_model`` raises.
        """
        old = self.model
        old.close()
        self._use(without_model(old))
        try:
            self._use(self._open_model(reference))
        except BaseException:  # Ctrl-C while it loads, too
            if not isinstance(old.engine, NoModel):
                self._load_again(old.reference)
            raise
        self._announced_dropped = 0

    def _load_again(self, reference: str) -> None:
        try:
            self._use(self._open_model(reference))
        except KeyboardInterrupt:
            self.console.warn(_("No model is loaded now; /model NAME loads one."))
        except TanukiError as error:
            self.console.warn(
                _("{model} cannot be loaded again: {reason}").format(model=reference, reason=error.message)
            )
            self.console.warn(_("No model is loaded now; /model NAME loads one."))

    def _use(self, model: LoadedModel) -> None:
        self.model = model
        self.session.engine = model.engine
        self.session.reference = model.reference

    def start(self, conversation: Conversation) -> None:
        """Go on in ``conversation``, with the sampling options it had."""
        if conversation.nodes:
            self.set_sampling(in_range(conversation.settings.sampling))
        self.session.switch_conversation(conversation)
        self._announced_dropped = 0

    def set_sampling(self, options: SamplingOptions) -> None:
        """Use ``options`` from the next answer on."""
        self.session.options = options
        self.settings = replace(self.settings, sampling=options)

    def show_last_turn(self) -> None:
        """Print where a conversation stands that is gone on with: its last question and answer."""
        question, answer = self.conversation.last("user"), self.conversation.last("assistant")
        self.console.note(
            plural(
                len(self.conversation.path_nodes()),
                "Going on with “{title}”, {count} message.",
                _("Going on with “{title}”, {count} messages."),
            ).format(title=self.conversation.title, count=len(self.conversation.path_nodes()))
        )
        if question is not None and answer is not None:
            self.console.note(f"> {question.message.content}")
            writer = open_answer(self.console, self.settings)
            writer.feed(answer.message.content)
            self._end(writer.finish)

    def _history_failed(self, error: HistoryError) -> None:
        if self._answering:  # a warning must not break into a line of the answer
            self._unsaved.append(error)
            return
        self.console.warn(_("This conversation is not being saved: {reason}").format(reason=error.message))
        if error.hint:
            self.console.note(error.hint)

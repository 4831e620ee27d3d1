"""One turn of a chat, from question to saved answer. Knows no terminal.

The question is saved before anything is generated, and the answer as it grows (turn.py).
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from msgspec.structs import replace

from tanuki_cli.conversation import (
    Conversation,
    ConversationKind,
    Message,
    Node,
)
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Chunk, PromptPlan
from tanuki_cli.engines.base import Engine
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.history import HistoryStore, title_from
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.prompt import with_persona
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.text.redaction import without_query
from tanuki_cli.text.surrogates import SurrogateJoiner
from tanuki_cli.turn import Turn, TurnStatistics


class ChatSession:
    """A conversation with an engine behind it; ``reference`` is what the user calls the model, ``form``
    what is asked of every answer. ``kind`` is what a new conversation is; a chat makes one of any other.

    ``store`` None keeps nothing on disk. If the history fails, the chat goes on and ``on_history_error``
    is told, once in a row: every turn tries again, and what was missed is saved then.
    """

    def __init__(
        self,
        engine: Engine,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        form: AnswerForm = PLAIN,
        kind: ConversationKind = "chat",
        reference: str = "auto",
        store: HistoryStore | None = None,
        on_history_error: Callable[[HistoryError], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.conversation = conversation
        self.options = options
        self.form = form
        self.kind = kind
        self.reference = reference
        self.last_turn: TurnStatistics | None = None
        self.last_plan: PromptPlan | None = None
        self.unanswered: Node | None = None
        self._store = store
        self._on_history_error = on_history_error
        self._history_failed = False
        self._interrupted = False
        self._clock = clock

    @property
    def saving(self) -> bool:
        """Whether turns are kept on disk."""
        return self._store is not None and not self._history_failed

    def send(self, text: str, *, typed: str = "") -> Generator[Chunk, None, None]:
        """Ask ``text`` and stream the answer. What of it was ``typed`` gives a new conversation its title.

        Raises the errors of :meth:`Engine.stream`; what was received by then is saved. A question
        that got no text at all stays in the tree, but the tip goes back before it.
        """
        # From here on Ctrl-C must not tear the question from its answer.
        with self.interruptible():
            last = self.conversation.nodes.get(self.conversation.tip or "")
            if last is not None and last.message.role == "user":
                # Its answer never began, whatever broke off in between: the new question is its sibling.
                self.conversation.branch(last.parent_id)
            parent = self.conversation.tip
            self._claim()
            if not self.conversation.nodes and typed != text:
                self.conversation.title = self.conversation.title or title_from(typed)
            node = self.conversation.append(Message("user", text))
            self.conversation.settings = replace(
                self.conversation.settings, model=without_query(self.reference), sampling=self.options
            )
            self._save(lambda store: store.save(self.conversation))
            yield from self._answer(node, parent)

    def regenerate(self) -> Generator[Chunk, None, None]:
        """Answer the last question again; the answers become siblings.

        Raises InputError if there is no question, else as :meth:`send`.
        """
        question = self.unanswered or self.conversation.last("user")
        if question is None:
            raise InputError(_("There is no question to answer again."), hint="/help retry")
        with self.interruptible():
            self.conversation.branch(question.id)
            self._claim()
            yield from self._answer(question, question.parent_id)

    def continue_(self) -> Generator[Chunk, None, None]:
        """Let the answer at the tip go on that was cut, from exactly the ids that were there.

        The longer answer becomes a sibling of the cut one, which stays. Raises InputError if there is no
        answer to go on with, else as :meth:`send`.
        """
        cut = self.conversation.nodes.get(self.conversation.tip or "")
        question = self.conversation.nodes.get(cut.parent_id or "") if cut is not None else None
        if (
            cut is None
            or question is None
            or cut.message.role != "assistant"
            or (cut.generation is not None and cut.generation.finish_reason == "stop")
        ):
            raise InputError(
                _("There is no answer that was cut."),
                hint=_("Only an answer that reached its limit, or was stopped, can go on."),
            )
        with self.interruptible():
            self.conversation.branch(question.id)
            self._claim()
            yield from self._answer(question, cut.id, begun=self._begun(cut))

    def _claim(self) -> None:
        """Make the conversation one of this kind; a question that goes on in a chat is a chat from now on."""
        if self.kind == "chat" or not self.conversation.nodes:
            self.conversation.kind = self.kind

    def _begun(self, cut: Node) -> str | tuple[int, ...]:
        """The ids of an answer where this model gave them, and they are its text; else its text."""
        tokenizer, made = self.engine.tokenizer, cut.generation
        if made is None or tokenizer is None or made.model != self.engine.info.model:
            return cut.message.content
        text = cut.message.content.rstrip("\N{REPLACEMENT CHARACTER}")
        in_range = all(id_ < tokenizer.vocab_size for id_ in made.token_ids)
        if made.token_ids and in_range and tokenizer.decode(made.token_ids).startswith(text):
            return made.token_ids
        return cut.message.content

    def prompt_messages(self, *more: Message) -> list[Message]:
        """The path, and ``more`` after it, as the engine is given them: with the persona."""
        return with_persona([*self.conversation.path(), *more], self.conversation.settings.persona)

    def set_persona(self, persona: str | None) -> None:
        """Put ``persona`` before every question of this conversation from now on; None for nothing."""
        self.conversation.settings = replace(self.conversation.settings, persona=persona)
        self.save_conversation()

    def switch_conversation(self, conversation: Conversation) -> None:
        """Go on in another conversation."""
        self.conversation = conversation
        self.unanswered = self.last_turn = self.last_plan = None

    def save_conversation(self) -> None:
        """Keep a changed title, system prompt or persona."""
        self._save(lambda store: store.save(self.conversation))

    def set_title(self, title: str) -> None:
        """Give the conversation a title of the user's."""
        self.conversation.title = title
        self._save(lambda store: store.set_title(self.conversation.id, title))

    def start_saving(self, store: HistoryStore) -> None:
        """Keep this conversation from now on, with what it has so far. Raises HistoryError."""
        store.save(self.conversation)
        self._store = store

    def move_tip(self, node_id: str | None) -> None:
        """Continue below ``node_id``, as /undo and /branch do. Raises KeyError for an unknown id."""
        self.conversation.branch(node_id)
        self.unanswered = None
        self._save(lambda store: store.set_tip(self.conversation.id, node_id))

    def _answer(
        self, question: Node, parent: str | None, *, begun: str | tuple[int, ...] | None = None
    ) -> Generator[Chunk, None, None]:
        """Answer ``question``; the tip goes to ``parent`` if nothing comes. ``begun`` is what goes on."""
        self.unanswered = None
        turn = Turn(self.conversation, model=self.engine.info.model, save=self._save, clock=self._clock)
        joiner = SurrogateJoiner()
        form = self.form if begun is None else replace(self.form, begun=begun)
        try:
            # A retry must not repeat itself: only a seed that was asked for is used again.
            stream = self.engine.stream(self.prompt_messages(), self.options, form)
            with closing(stream):
                for piece in stream:
                    text = joiner.feed(piece.text)
                    if piece.finish_reason is not None:
                        text += joiner.finish()
                    chunk = piece if text == piece.text else replace(piece, text=text)
                    turn.take(chunk)
                    self.last_plan = chunk.plan or self.last_plan
                    yield chunk
                    if self._interrupted:
                        if chunk.plan is not None:
                            break  # nothing was generated yet
                        self.engine.cancel()  # the first request may have come before the engine began
        finally:
            self.last_turn = turn.finish()
            if turn.node is None:
                self.unanswered = question if begun is None else None
                self.conversation.branch(parent)
                self._save(lambda store: store.set_tip(self.conversation.id, parent))

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this block Ctrl-C stops the answer, also one that is still to begin, and raises nothing."""
        with on_interrupt(self.interrupt):
            try:
                yield
            finally:
                self.forget_interrupt()

    @property
    def interrupted(self) -> bool:
        """Whether an answer was asked to stop, and none has stopped for it yet."""
        return self._interrupted

    def interrupt(self) -> None:
        """Stop the running answer, or the next one as soon as it begins. For a signal handler."""
        self._interrupted = True
        self.engine.cancel()

    def forget_interrupt(self) -> None:
        """Let the next answer run, whatever was to be stopped."""
        self._interrupted = False

    def _save(self, action: Callable[[HistoryStore], None]) -> None:
        if self._store is None:
            return
        try:
            action(self._store)
        except HistoryError as error:
            if not self._history_failed:
                self._on_history_error(error)
            self._history_failed = True
        else:
            self._history_failed = False

"""The answer of one turn as it grows, and what came of it.

A growing answer is saved at most every half second, and the end of it with its finish reason: whatever kills
the process, at most that half second is lost.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, FinishReason, Generation, Message, Node, Usage
from tanuki_cli.engines.answers import AnswerScore, Chunk, Token
from tanuki_cli.history import HistoryStore

_SAVE_EVERY_S: Final = 0.5


class TurnStatistics(Struct, frozen=True, kw_only=True):
    """What came of one turn: the answer, and what it took in seconds and tokens.

    ``node_id`` is the message that holds ``text``, None where none was begun. ``tokens`` are empty where
    the engine does not know their ids, ``scores`` where none were asked for. ``ttft_s`` is the time to
    the first text.
    """

    node_id: str | None
    text: str
    tokens: tuple[Token, ...]
    scores: tuple[AnswerScore, ...]
    finish_reason: FinishReason
    usage: Usage
    seed: int | None
    ttft_s: float | None
    total_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """Generation speed after the first text, or None for too short an answer."""
        if self.ttft_s is None or self.usage.completion_tokens < 2 or self.total_s <= self.ttft_s:
            return None
        return (self.usage.completion_tokens - 1) / (self.total_s - self.ttft_s)


class Turn:
    """The answer of ``model`` to the tip of ``conversation``: its ``node`` once it began, its text so far,
    its times. ``save`` does something with the history, where there is one."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        model: str,
        save: Callable[[Callable[[HistoryStore], None]], None],
        clock: Callable[[], float],
    ) -> None:
        self.node: Node | None = None
        self._conversation = conversation
        self._save = save
        self._clock = clock
        self._started = self._saved_at = clock()
        self._first_text_at: float | None = None
        self._text: list[str] = []
        self._tokens: list[Token] = []
        self._begun: tuple[Token, ...] = ()  # those that it began with
        self._scores: tuple[AnswerScore, ...] = ()
        self._generation = Generation(model=model, finish_reason=None)
        self._prompt_tokens = self._completion_tokens = 0
        self._usage: Usage | None = None  # what the stream says of it in the end
        self._finish_reason: FinishReason = "interrupted"  # unless the stream says otherwise

    def take(self, chunk: Chunk) -> None:
        """Note a chunk, and save what has grown if it is time."""
        self._text.append(chunk.text)
        if chunk.plan is not None:
            self._begun = chunk.tokens
            self._prompt_tokens = chunk.plan.prompt_tokens or 0
            return
        self._tokens.extend(chunk.tokens)
        if chunk.finish_reason is not None:
            self._finish_reason = chunk.finish_reason
            self._usage = chunk.usage
            self._scores = chunk.scores
            self._generation = replace(self._generation, seed=chunk.seed)
            return
        self._completion_tokens += chunk.token_count
        if not chunk.text:
            return
        now = self._clock()
        if self._first_text_at is None:
            self._first_text_at = now
            self._begin()
        if now - self._saved_at >= _SAVE_EVERY_S:
            self._update()

    def finish(self) -> TurnStatistics:
        """Save the end of the answer; its finish reason is "interrupted" if the stream broke off."""
        if self.node is None and self._finish_reason != "interrupted":
            self._begin()  # a model may answer with nothing; that is an answer too
        usage = self._usage or Usage(
            prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens
        )
        statistics = TurnStatistics(
            node_id=None if self.node is None else self.node.id,
            text="" if self.node is None else "".join(self._text),
            tokens=tuple(self._tokens),
            scores=self._scores,
            finish_reason=self._finish_reason,
            usage=usage,
            seed=self._generation.seed,
            ttft_s=None if self._first_text_at is None else self._first_text_at - self._started,
            total_s=self._clock() - self._started,
        )
        self._generation = replace(
            self._generation,
            finish_reason=self._finish_reason,
            usage=usage,
            tokens_per_s=statistics.tokens_per_s,
        )
        if self.node is not None:
            self._update()
        return statistics

    def _begin(self) -> None:
        node = self._conversation.append(Message("assistant", ""), generation=self._generation)
        self.node = node
        self._save(lambda store: store.save(self._conversation))

    def _update(self) -> None:
        assert self.node is not None
        can_go_on = self._finish_reason != "stop"
        ids = tuple(token.id for token in (*self._begun, *self._tokens)) if can_go_on else ()
        generation = replace(self._generation, token_ids=ids)
        node = self._conversation.update(self.node.id, "".join(self._text), generation)
        self._saved_at = self._clock()
        self._save(lambda store: store.update_node(self._conversation.id, node))

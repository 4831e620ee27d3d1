"""One answer as it comes: its tokens become text, and what ends it is noticed."""

from collections.abc import Sequence

from msgspec.structs import replace

from tanuki_cli.conversation import FinishReason, Usage
from tanuki_cli.engines.answers import AnswerScore, Chunk, Token
from tanuki_cli.engines.stops import OWN_STOP, StopMatcher
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer


class AnswerText:
    """Takes tokens one by one: counts them, makes them text, and learns why the answer ends.

    ``withheld`` are ids after ``prompt_ids`` that are there already, and only the beginning of a character.
    :attr:`text` is what can be shown and was not taken yet. Once :attr:`ended`, no token may follow.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        *,
        withheld: Sequence[int] = (),
    ) -> None:
        self.text = ""
        self.ended = False
        self.completion_tokens = 0
        self.finish_reason: FinishReason = "length"
        self._options = options
        self._end_ids = tokenizer.end_ids
        self._vocab_size = tokenizer.vocab_size
        self._detokenizer = tokenizer.detokenizer(prompt_ids)
        self._matcher = StopMatcher((OWN_STOP, *options.stop))
        self._unsent: list[Token] = []
        for id_ in withheld:
            self._show(self._detokenizer.feed(id_))

    def add(self, token: Token) -> None:
        """Go on with ``token``. Raises DamagedModelError for one that the tokenizer does not have."""
        self.completion_tokens += 1
        self._unsent.append(token)
        if token.id in self._end_ids:
            self.end("stop")
            return
        if token.id >= self._vocab_size:
            raise DamagedModelError(
                _("The model produced the token {id}, which its tokenizer does not have.").format(id=token.id)
            )
        self._show(self._detokenizer.feed(token.id))
        if not self.ended and self.completion_tokens >= self._options.max_new_tokens:
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        """Nothing follows; what was withheld is text, too."""
        if self.ended:
            return
        self.finish_reason = reason
        self._show(self._detokenizer.flush())
        self.ended = True
        self.text += self._matcher.flush()

    def take(self) -> Chunk:
        """What came since the last time."""
        text, self.text = self.text, ""
        tokens, self._unsent = tuple(self._unsent), []
        return Chunk(text=text, token_count=len(tokens), tokens=tokens)

    def last_chunk(self, usage: Usage, *, scores: tuple[AnswerScore, ...] = ()) -> Chunk:
        """The chunk that ends the stream, with the tokens that gave no text any more."""
        return replace(
            self.take(),
            finish_reason=self.finish_reason,
            usage=usage,
            seed=self._options.seed,
            scores=scores,
        )

    def _show(self, text: str) -> None:
        if not text:
            return
        self.text += self._matcher.feed(text)
        if self._matcher.stopped:
            self.finish_reason = "stop"
            self.ended = True

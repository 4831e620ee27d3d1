"""One answer from a server: its text, its counts, and why it ended, by the rules of local engines."""

from collections.abc import Iterator

from msgspec.structs import replace

from tanuki_cli.conversation import FinishReason, Usage
from tanuki_cli.engines.answers import AnswerScore, Chunk, Token
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.remote.dialects import RemotePrompt
from tanuki_cli.engines.remote.events import Delta
from tanuki_cli.engines.stops import OWN_STOP, StopMatcher
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.text.redaction import Redactor
from tanuki_cli.tokenizer import ChatTokenizer


class RemoteAnswer:
    """Turns deltas into chunks. ``tokenizer`` None means that only the server's text counts.

    ``begun`` is whether any of the answer has arrived. A token has at most so many ``alternatives``.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer | None,
        prompt: RemotePrompt,
        options: SamplingOptions,
        *,
        alternatives: int = 0,
    ) -> None:
        self.begun = False
        self._tokenizer = tokenizer
        self._unsent: list[Token] = []
        self._counted = 0
        ids = prompt.ids or ()
        # What was begun may end in the middle of a character.
        withheld = len(prompt.begun) - (tokenizer.complete_length(prompt.begun) if tokenizer else 0)
        self._context = ids[: len(ids) - withheld] if tokenizer else ids
        self._withheld = ids[len(self._context) :]
        self._options = options
        self._alternatives = alternatives
        self._room = prompt.max_new_tokens  # a server may go on beyond what it was asked for
        self._over = False  # by our own rules; what the server still sends is not part of the answer
        self._finish_reason: FinishReason = "stop"
        self._without_ids: Delta | None = None
        self._count = 0
        self._prompt_tokens = len(ids)
        self._cached_tokens = 0

    def stream(self, deltas: Iterator[Delta]) -> Iterator[Chunk]:
        """The text, as it comes and as far as it is decided.

        Raises RequestFailed as ``deltas`` does; the chunks given by then stay valid.
        """
        matcher, redactor = StopMatcher((OWN_STOP, *self._options.stop)), Redactor()
        failure: RemoteError | None = None
        try:
            for text in self._texts(self._content(deltas)):
                if matcher.stopped:
                    continue  # only the counts are still wanted
                safe = matcher.feed(redactor.feed(text))
                if safe:
                    yield self._chunk(safe)
                if matcher.stopped:
                    self._over = True
                    self._finish_reason = "stop"
        except RemoteError as error:
            failure = error
        if rest := matcher.feed(redactor.finish()) + matcher.flush():
            yield self._chunk(rest)
        if failure is not None:
            raise failure

    def _chunk(self, text: str) -> Chunk:
        tokens, self._unsent = tuple(self._unsent), []
        # A server may count fewer tokens than it sent pieces.
        count = max(0, self._count - self._counted)
        self._counted = self._count
        return Chunk(text=text, token_count=count, tokens=tokens)

    def last_chunk(self, *, seed: int | None, scores: tuple[AnswerScore, ...] = ()) -> Chunk:
        """The chunk that ends the stream; ``seed`` None if the server took none."""
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._count,
            cached_tokens=self._cached_tokens,
        )
        return replace(
            self._chunk(""), finish_reason=self._finish_reason, usage=usage, seed=seed, scores=scores
        )

    def _content(self, deltas: Iterator[Delta]) -> Iterator[Delta]:
        """The deltas that add to the answer; the counts of all of them are noted."""
        try:
            for delta in deltas:
                if delta.has_content:
                    if self._over:
                        return  # the server goes on although the answer has ended: leave it
                    self.begun = True
                    if self._room <= 0:
                        self._finish_reason = "length"
                        return
                    delta = self._cut(delta)
                self._note(delta)
                if delta.has_content:
                    yield delta
        except GenerationCancelled:
            if not self._over:
                self._finish_reason = "interrupted"

    def _cut(self, delta: Delta) -> Delta:
        """As much of ``delta`` as there is room for; a text without ids is at least one token."""
        tokens = self._all_tokens(delta)
        if tokens is not None and len(tokens) > self._room:
            tokens = tokens[: self._room]
            delta = replace(delta, completion_tokens=None, finish_reason="length")
        self._room -= 1 if tokens is None else len(tokens)
        return replace(delta, tokens=tokens)

    def _all_tokens(self, delta: Delta) -> tuple[Token, ...] | None:
        """The tokens of ``delta``, with those that were left out; None where they are not known.

        What is left out are the first bytes of a character, each a token of its own. If there are as many
        tokens as bytes, nothing else can be meant.
        """
        if not delta.left_out or delta.tokens is None or self._tokenizer is None:
            return delta.tokens
        ids = self._tokenizer.byte_ids(delta.text)
        if len(ids) != delta.left_out + len(delta.tokens):
            return None
        if ids[delta.left_out :] != [token.id for token in delta.tokens]:
            return None
        return (*map(Token, ids[: delta.left_out]), *delta.tokens)

    def _note(self, delta: Delta) -> None:
        if delta.finish_reason is not None and not self._over:
            self._finish_reason = delta.finish_reason
        if delta.completion_tokens is not None:
            self._count = delta.completion_tokens
        elif delta.has_content:
            self._count += 1 if delta.tokens is None else len(delta.tokens)
        if delta.prompt_tokens is not None:
            self._prompt_tokens = delta.prompt_tokens
        if delta.cached_tokens is not None:
            self._cached_tokens = delta.cached_tokens

    def _texts(self, content: Iterator[Delta]) -> Iterator[str]:
        if self._tokenizer is None:
            yield from (delta.text for delta in content)
            return
        # Where a delta has no tokens, its text takes their place and a new run of ids begins.
        context = self._context
        while True:
            self._without_ids = None
            yield from self._tokenizer.detokenize(self._ids(content, self._tokenizer), prompt_ids=context)
            if self._without_ids is None:
                return
            yield self._without_ids.text
            context = ()

    def _ids(self, content: Iterator[Delta], tokenizer: ChatTokenizer) -> Iterator[int]:
        withheld, self._withheld = self._withheld, ()
        yield from withheld
        for delta in content:
            if delta.tokens is None:
                self._without_ids = delta
                return
            for token in delta.tokens:
                id_ = token.id
                token = token._replace(alternatives=token.alternatives[: self._alternatives])
                if id_ in tokenizer.end_ids:
                    self._over = True
                    self._finish_reason = "stop"
                    self._unsent.append(token)
                    break
                if not 0 <= id_ < tokenizer.vocab_size:
                    raise RemoteError(
                        _("The server produced the token {id}, which the tokenizer does not have.").format(
                            id=id_
                        ),
                        hint=_("Is it really the model that you mean? tanuki doctor"),
                    )
                self._unsent.append(token)
                yield id_

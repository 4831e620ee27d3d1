"""Answers in OpenAI's two forms, whole and in pieces, with what vLLM adds to them. Knows no network.

A piece of an answer and a whole one are the same chunk, joined from more or fewer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Usage
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.server.asking import Prompt, Wanted
from tanuki_cli.server.logprobs import chat_logprobs, completion_logprobs
from tanuki_cli.server.served import ServedModel

Json = dict[str, Any]


class Form(Protocol):
    """How one endpoint answers."""

    def whole(self, answers: Sequence[Chunk]) -> Json:
        """All answers at once."""

    def opening(self) -> Iterator[Json]:
        """The events before anything has come."""

    def piece(self, index: int, chunk: Chunk) -> Iterator[Json]:
        """The events for what is new of an answer."""

    def closing(self, usage: Usage) -> Iterator[Json]:
        """The events after the last answer."""


class Reply(Struct, kw_only=True):
    """What both forms share. ``identity`` and ``created`` are the same in every event of a reply."""

    identity: str
    created: int
    model: ServedModel
    wanted: Wanted

    def _head(self, kind: str) -> Json:
        return {"id": self.identity, "object": kind, "created": self.created, "model": self.model.name}

    def _event(self, kind: str, choices: Sequence[Json]) -> Json:
        usage = {"usage": None} if self.wanted.include_usage else {}
        return {**self._head(kind), "choices": list(choices), **usage}

    def _usage_event(self, kind: str, usage: Usage) -> Iterator[Json]:
        if self.wanted.include_usage:
            yield {**self._head(kind), "choices": [], "usage": usage_json(usage)}

    def _prompt(self, index: int) -> Prompt:
        return self.wanted.prompts[index // self.wanted.n]

    def _ids(self, chunk: Chunk) -> Json:
        """The ids of a piece, where they are wanted and this program knows them."""
        if not (self.wanted.gives_ids and self.model.takes_ids):
            return {}
        return {"token_ids": [token.id for token in chunk.tokens]}

    def _prompt_ids(self, index: int) -> Json:
        if not (self.wanted.gives_ids and self.model.takes_ids):
            return {}
        return {"prompt_token_ids": list(self._prompt(index).ids)}


class ChatReply(Reply):
    """``/v1/chat/completions``."""

    def whole(self, answers: Sequence[Chunk]) -> Json:
        """See :meth:`Form.whole`."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": chunk.text},
                "logprobs": self._logprobs(chunk),
                "finish_reason": chunk.finish_reason,
                **self._ids(chunk),
            }
            for index, chunk in enumerate(answers)
        ]
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": usage_json(total_usage(answers, self.wanted)),
            **self._prompt_ids(0),
        }

    def opening(self) -> Iterator[Json]:
        """See :meth:`Form.opening`."""
        for index in range(len(self.wanted.jobs)):
            yield {**self._delta(index, {"role": "assistant", "content": ""}, {}), **self._prompt_ids(index)}

    def piece(self, index: int, chunk: Chunk) -> Iterator[Json]:
        """See :meth:`Form.piece`."""
        logprobs, ids = self._logprobs(chunk), self._ids(chunk)
        if chunk.text or chunk.tokens:
            more = {"logprobs": logprobs} if logprobs else {}
            yield self._delta(index, {"content": chunk.text}, {**more, **ids})
        if chunk.finish_reason is not None:
            yield self._delta(index, {}, {"finish_reason": chunk.finish_reason})

    def closing(self, usage: Usage) -> Iterator[Json]:
        """See :meth:`Form.closing`."""
        return self._usage_event("chat.completion.chunk", usage)

    def _delta(self, index: int, delta: Json, more: Json) -> Json:
        choice = {"index": index, "delta": delta, "finish_reason": None, **more}
        return self._event("chat.completion.chunk", [choice])

    def _logprobs(self, chunk: Chunk) -> Json | None:
        if self.wanted.logprobs is None or self.model.tokenizer is None:
            return None
        return chat_logprobs(
            chunk.tokens,
            self.model.tokenizer,
            most=self.wanted.logprobs,
            by_id=self.wanted.named_by_id,
        )


class CompletionReply(Reply):
    """``/v1/completions``."""

    def whole(self, answers: Sequence[Chunk]) -> Json:
        """See :meth:`Form.whole`."""
        choices = [
            self._choice(index, chunk, echoed=self._echo(index), first=True)
            for index, chunk in enumerate(answers)
        ]
        usage = usage_json(total_usage(answers, self.wanted))
        return {**self._head("text_completion"), "choices": choices, "usage": usage}

    def opening(self) -> Iterator[Json]:
        """See :meth:`Form.opening`."""
        for index in range(len(self.wanted.jobs)):
            echoed = self._echo(index)
            if echoed or self.wanted.gives_ids:
                choice = self._choice(index, Chunk(), echoed=echoed, first=True)
                yield self._event("text_completion", [choice])

    def piece(self, index: int, chunk: Chunk) -> Iterator[Json]:
        """See :meth:`Form.piece`."""
        yield self._event("text_completion", [self._choice(index, chunk)])

    def closing(self, usage: Usage) -> Iterator[Json]:
        """See :meth:`Form.closing`."""
        return self._usage_event("text_completion", usage)

    def _choice(self, index: int, chunk: Chunk, *, echoed: str = "", first: bool = False) -> Json:
        logprobs = None
        if self.wanted.logprobs is not None:
            logprobs = completion_logprobs(
                chunk.tokens,
                self.model.exact,
                most=self.wanted.logprobs,
                by_id=self.wanted.named_by_id,
            )
        return {
            "index": index,
            "text": echoed + chunk.text,
            "logprobs": logprobs,
            "finish_reason": chunk.finish_reason,
            **self._ids(chunk),
            **(self._prompt_ids(index) if first else {}),
        }

    def _echo(self, index: int) -> str:
        if not self.wanted.echo:
            return ""
        prompt = self._prompt(index)
        return prompt.text or self.model.exact.decode(prompt.ids)


def total_usage(answers: Sequence[Chunk], wanted: Wanted) -> Usage:
    """The counts of all answers; a prompt counts once, however often it is answered."""
    usages = [chunk.usage or Usage(prompt_tokens=0, completion_tokens=0) for chunk in answers]
    once = usages[:: wanted.n]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in once),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in once),
    )


def usage_json(usage: Usage) -> Mapping[str, object]:
    """OpenAI's counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def without_text(chunk: Chunk) -> Chunk:
    """What of a chunk the counts need."""
    return replace(chunk, text="", tokens=())

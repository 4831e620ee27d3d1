"""What came of a row, and the record of it."""

import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, to_builtins

from tanuki_cli.batch.requests import Request
from tanuki_cli.batch.rows import Fields, Row
from tanuki_cli.conversation import FinishReason, Usage
from tanuki_cli.engines.answer_json import choices_json, tokens_json
from tanuki_cli.engines.answers import AnswerScore, Chunk, Token
from tanuki_cli.errors import EngineError, InputError, PromptTooLongError, RemoteError, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.tokenizer import ChatTokenizer

OWN_FIELDS: Final = (
    "id", "answer", "finish_reason", "usage", "seed", "error", "digest", "logprobs", "choices", "dropped",
)  # fmt: skip
"""What a record says itself; a field of the input with such a name is called ``input_…`` in it."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The answer to a row, as far as it came, and the error that ended it, if any.

    ``dropped`` counts the oldest messages that did not fit into the context. Of a token so many
    ``alternatives`` are told, or all.
    """

    row: Row
    text: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    seed: int | None = None
    tokens: tuple[Token, ...] = ()
    scores: tuple[AnswerScore, ...] = ()
    dropped: int = 0
    alternatives: int | None = None
    error: TanukiError | None = None


class Answering:
    """One answer while it comes."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._begun = ""
        self._texts: list[str] = []
        self._tokens: list[Token] = []
        self._dropped = 0

    def take(self, chunk: Chunk) -> None:
        """The next piece."""
        if chunk.plan is not None and self.request.continues:
            self._begun = chunk.text
        else:
            self._texts.append(chunk.text)
        if chunk.plan is not None:
            self._dropped = chunk.plan.dropped
        elif self.request.job.form.logprobs:
            self._tokens.extend(chunk.tokens)

    def ended(self, chunk: Chunk, *, remote: bool) -> Outcome:
        """What came of it, with its last ``chunk`` taken: an answer that lacks its shape has failed."""
        text = "".join(self._texts)
        return Outcome(
            row=self.request.row,
            text=text,
            finish_reason=chunk.finish_reason,
            usage=chunk.usage,
            seed=chunk.seed,
            tokens=tuple(self._tokens),
            scores=chunk.scores,
            dropped=self._dropped,
            alternatives=self.request.alternatives,
            error=self._misshapen(text, chunk, remote=remote),
        )

    @property
    def too_long(self) -> TanukiError | None:
        """That messages were left out which may not be."""
        if self.request.truncates or not self._dropped:
            return None
        return TurnsTooLongError(
            _(
                "The conversation is too long: its oldest {count} messages would have to be left out. "
                'To allow that: "truncation": "auto".'
            ).format(count=self._dropped)
        )

    def failed(self, error: TanukiError) -> Outcome:
        """What came of it by then; text that was received is kept."""
        text = "".join(self._texts)
        return Outcome(row=self.request.row, text=text or None, dropped=self._dropped, error=error)

    def _misshapen(self, text: str, chunk: Chunk, *, remote: bool) -> TanukiError | None:
        shape = self.request.job.form.shape
        if shape is None:
            return None
        from tanuki_cli.engines.shapes import reading  # most answers have no shape

        if reading.fits(shape, self._begun + text, as_data=remote):
            return None
        return MisshapenError(
            _("The answer was cut before its shape was complete.")
            if chunk.finish_reason == "length"
            else _("The answer does not have the shape that was asked for.")
        )


class MisshapenError(EngineError):
    """An answer lacks the shape that was asked for."""


class TurnsTooLongError(InputError):
    """A conversation does not fit into the context, and nothing of it may be left out."""


def error_code(error: TanukiError) -> str:
    """A word for programs; the message is in the user's language."""
    kinds = (
        (PromptTooLongError, "too_long"),
        (TurnsTooLongError, "too_long"),
        (MisshapenError, "shape"),
        (InputError, "input"),
        (EngineError, "engine"),
        (RemoteError, "remote"),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), "error")


def record_of(outcome: Outcome, tokenizer: ChatTokenizer | None, *, model: str) -> JsonObject:
    """The line of a row, in the form that the row has. ``tokenizer`` gives the texts of log probabilities."""
    if outcome.row.is_openai:
        return _openai_record(outcome, tokenizer, model=model)
    return _own_record(outcome, tokenizer)


def _own_record(outcome: Outcome, tokenizer: ChatTokenizer | None) -> JsonObject:
    """``{id, the fields of the row, answer, finish_reason, usage, …}``."""
    row = outcome.row
    return {
        "id": row.key,
        **renamed(row.fields),
        "answer": outcome.text,
        "finish_reason": outcome.finish_reason,
        "usage": None if outcome.usage is None else to_builtins(outcome.usage),
        "seed": outcome.seed,
        **({"dropped": outcome.dropped} if outcome.dropped else {}),
        **_probabilities(outcome, tokenizer),
        "error": _error(outcome),
        "digest": row.digest,
    }


def renamed(fields: Fields) -> dict[str, Any]:
    """The fields of a row under names that its record has no other use for."""
    taken = set(OWN_FIELDS)
    result = {}
    for name, value in fields.items():
        if name == "id" and not isinstance(value, bool) and isinstance(value, (str, int)) and value != "":
            continue  # it is the record's own
        while name in taken:
            name = f"input_{name}"
        taken.add(name)
        result[name] = value
    return result


def _openai_record(outcome: Outcome, tokenizer: ChatTokenizer | None, *, model: str) -> JsonObject:
    """A line as OpenAI's Batch API writes it; its ``id`` holds the digest of the row."""
    row, usage = outcome.row, outcome.usage
    response = None
    if outcome.text is not None and usage is not None:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": outcome.text},
            "finish_reason": outcome.finish_reason,
            "logprobs": _openai_logprobs(outcome, tokenizer),
        }
        body = {
            "id": f"chatcmpl-{row.digest}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            },
        }
        response = {"status_code": 200, "request_id": f"req_{row.digest}", "body": body}
    return {
        "id": f"{OPENAI_ID}{row.digest}",
        "custom_id": row.fields["custom_id"],
        "response": response,
        "error": _error(outcome),
    }


OPENAI_ID: Final = "batch_req_"


def _error(outcome: Outcome) -> dict[str, str] | None:
    error = outcome.error
    return None if error is None else {"code": error_code(error), "message": sanitize_line(error.message)}


def _probabilities(outcome: Outcome, tokenizer: ChatTokenizer | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if outcome.tokens and tokenizer is not None:
        found["logprobs"] = tokens_json(outcome.tokens, tokenizer)
    if outcome.scores:
        found["choices"] = choices_json(outcome.scores)
    return found


def _openai_logprobs(outcome: Outcome, tokenizer: ChatTokenizer | None) -> JsonObject | None:
    if not outcome.tokens or tokenizer is None:
        return None
    shown = [token for token in outcome.tokens if token.id not in tokenizer.end_ids]  # joined, the text
    return {
        "content": [
            {
                **_openai_token(entry),
                "top_logprobs": [_openai_token(one) for one in entry["alternatives"][: outcome.alternatives]],
            }
            for entry in tokens_json(shown, tokenizer)
        ]
    }


def _openai_token(entry: Mapping[str, Any]) -> dict[str, Any]:
    text, data = entry["text"], entry.get("bytes")
    return {
        "token": text if text is not None else bytes(data or ()).decode("utf-8", "replace"),
        "logprob": entry["logprob"],
        "bytes": list(text.encode("utf-8", "replace")) if text is not None else data,
    }

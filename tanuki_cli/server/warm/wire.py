"""What goes over the socket: JSON, answered by lines of JSON. Both sides are this program, of one version."""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import asdict

from tanuki_cli import errors
from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import AnswerForm, AnswerScore, Chunk, PromptPlan, Token
from tanuki_cli.engines.shapes import Shape
from tanuki_cli.errors import PromptTooLongError, TanukiError
from tanuki_cli.sampling import SamplingOptions

Json = dict[str, Any]
MAX_LINE: Final = 64 << 20
_COUNTS: Final = ("prompt_tokens", "limit", "excess_characters")


def encode(value: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def encode_request(value: Mapping[str, Any]) -> bytes:
    """A request: its length, then itself, so that what comes after it is not read with it."""
    content = json.dumps(value, separators=(",", ":")).encode()
    return struct.pack(">I", len(content)) + content


def read_request(connection: socket.socket) -> Json:
    """The request that comes over ``connection``. Raises ValueError or OSError where there is none."""
    (length,) = struct.unpack(">I", _exactly(connection, 4))
    if length > MAX_LINE:
        raise ValueError(length)
    found: Json = json.loads(_exactly(connection, length))
    return found


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 16))
        if not part:
            raise ValueError("cut")
        parts += part
    return bytes(parts)


def messages_json(messages: Sequence[Message]) -> list[list[str]]:
    """Role and text of each."""
    return [[message.role, message.content] for message in messages]


def messages_of(value: list[Any]) -> list[Message]:
    """The reverse."""
    return [Message(role, content) for role, content in value]


def options_json(options: SamplingOptions) -> Json:
    """Every option."""
    return asdict(options)


def options_of(value: Json) -> SamplingOptions:
    """The reverse."""
    return SamplingOptions(**{**value, "stop": tuple(value["stop"])})


def form_json(form: AnswerForm) -> Json:
    """The shape, and what else is asked of an answer."""
    shape = None if form.shape is None else [form.shape.kind, form.shape.text]
    return {"shape": shape, "logprobs": form.logprobs, "scores": form.scores, "begun": form.begun}


def form_of(value: Json) -> AnswerForm:
    """The reverse."""
    begun = value["begun"]
    return AnswerForm(
        shape=None if value["shape"] is None else Shape(*value["shape"]),
        logprobs=value["logprobs"],
        scores=value["scores"],
        begun=begun if isinstance(begun, str) else tuple(begun),
    )


def plan_json(plan: PromptPlan) -> Json:
    """What of a conversation is sent."""
    return {**to_builtins(plan), "messages": messages_json(plan.messages)}


def plan_of(value: Json) -> PromptPlan:
    """The reverse."""
    return PromptPlan(**{**value, "messages": tuple(messages_of(value["messages"]))})


def chunk_json(chunk: Chunk) -> Json:
    """A chunk; what is not there is left out."""
    content = {
        "text": chunk.text,
        "token_count": chunk.token_count,
        "tokens": chunk.tokens,
        "plan": None if chunk.plan is None else plan_json(chunk.plan),
        "finish_reason": chunk.finish_reason,
        "usage": None if chunk.usage is None else to_builtins(chunk.usage),
        "seed": chunk.seed,
        "scores": [score_json(score) for score in chunk.scores],
    }
    return {name: value for name, value in content.items() if value not in (None, "", (), [])}


def chunk_of(value: Json) -> Chunk:
    """The reverse."""
    return Chunk(
        text=value.get("text", ""),
        token_count=value.get("token_count", 0),
        tokens=_tokens(value.get("tokens", ())),
        plan=plan_of(value["plan"]) if "plan" in value else None,
        finish_reason=value.get("finish_reason"),
        usage=Usage(**value["usage"]) if "usage" in value else None,
        seed=value.get("seed"),
        scores=tuple(map(score_of, value.get("scores", ()))),
    )


def score_json(score: AnswerScore) -> Json:
    """An answer with the probabilities of its tokens."""
    return {"text": score.text, "tokens": score.tokens}


def score_of(value: Json) -> AnswerScore:
    """The reverse."""
    return AnswerScore(text=value["text"], tokens=_tokens(value["tokens"]))


def _tokens(value: Sequence[Any]) -> tuple[Token, ...]:
    return tuple(
        Token(id_, logprob, tuple((other, its) for other, its in alternatives))
        for id_, logprob, alternatives in value
    )


def error_json(error: TanukiError) -> Json:
    """An error with its kind, so that the exit code is the same."""
    counts = {name: getattr(error, name) for name in _COUNTS} if isinstance(error, PromptTooLongError) else {}
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint, **counts}


def error_of(value: Json) -> TanukiError:
    """The reverse; a kind of a library's own becomes that of the engine."""
    message, hint = value["message"], value["hint"]
    if value["kind"] == PromptTooLongError.__name__:
        return PromptTooLongError(message, hint=hint, **{name: value[name] for name in _COUNTS})
    kind = getattr(errors, value["kind"], errors.EngineError)
    error: TanukiError = kind(message, hint=hint)
    return error

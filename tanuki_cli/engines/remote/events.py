"""The events in which a server sends its answer: what each adds, and what went wrong.

Fields of a wrong type count as absent.
"""

from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import FinishReason
from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.remote.failures import JsonObject, as_count
from tanuki_cli.engines.remote.tokens import completion_tokens

_OTHER_CONTENT: Final = ("reasoning", "reasoning_content", "refusal", "tool_calls", "function_call")


class Delta(Struct, frozen=True, kw_only=True):
    """What one event adds to the answer.

    ``tokens`` None means that only ``text`` is there. ``left_out`` are the tokens before them that the
    server did not send; ``text`` is that of all of them. Counts are totals so far, None where the server
    does not tell. ``unread`` is whether there was something in the place of the text that is none.
    """

    text: str = ""
    tokens: tuple[Token, ...] | None = None
    left_out: int = 0
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    unread: bool = False

    @property
    def has_content(self) -> bool:
        """Whether the answer grew."""
        return bool(self.text or self.tokens)


def openai_delta(event: JsonObject) -> Delta:
    """An event of a stream, or a whole answer, in any of the shapes that servers give it."""
    choice = choice_of(event)
    held = next((choice[name] for name in ("delta", "message") if choice.get(name)), choice)
    place = _mapping(held)
    content = place.get("content", place.get("text"))
    text = _content_text(content)
    other = bool(content) or any(bool(value) for name, value in place.items() if name in _OTHER_CONTENT)
    usage = _mapping(event.get("usage"))
    return Delta(
        text=text,
        tokens=completion_tokens(choice),
        finish_reason=_finish_reason(choice.get("finish_reason")),
        unread=not text and other,
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        cached_tokens=as_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
    )


def llama_server_end(event: JsonObject) -> Delta:
    """The last event of llama-server's ``/completion``."""
    prompt_tokens = as_count(event.get("tokens_evaluated"))
    computed = as_count(_mapping(event.get("timings")).get("prompt_n"))
    known = prompt_tokens is not None and computed is not None
    return Delta(
        text=text_of(event.get("content")),
        finish_reason="length" if _stopped_by_limit(event) else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=as_count(event.get("tokens_predicted")),
        cached_tokens=as_count((prompt_tokens or 0) - (computed or 0)) if known else None,
    )


def _finish_reason(value: object) -> FinishReason | None:
    if not isinstance(value, str) or not value:
        return None
    return "length" if value == "length" else "stop"


def _stopped_by_limit(event: JsonObject) -> bool:
    return event.get("stop_type") == "limit" or event.get("stopped_limit") is True


def _mapping(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _content_text(content: object) -> str:
    """The text of a message's content: text itself, or a list of parts of which some are text."""
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(map(text_of, parts))
    return text_of(content)


def text_of(value: object) -> str:
    """``value`` where it is a text; empty where it is none."""
    return value if isinstance(value, str) else ""


def reported_error(event: JsonObject) -> object:
    """What went wrong, where an event says that something did; None where it does not."""
    if event.get("error") or event.get("object") == "error":
        return event.get("error") or event
    choice = choice_of(event)
    if choice.get("error"):
        return choice["error"]
    reason = choice.get("finish_reason")
    return reason if reason in ("error", "abort") else None


def choice_of(event: JsonObject) -> JsonObject:
    """The only choice of an event or of a whole answer; empty where there is none."""
    choices = event.get("choices")
    return _mapping(choices[0]) if isinstance(choices, list) and choices else {}

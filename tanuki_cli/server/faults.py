"""What is wrong with a request, as OpenAI's clients are told: a status and an error object.

These sentences are in English, whatever language the program speaks: programs compare them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tanuki_cli.errors import InputError, PromptTooLongError, TanukiError
from tanuki_cli.protocol.fields import RequestError

INVALID: Final = "invalid_request_error"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ApiError(Exception):
    """Answered with ``status`` and an error object. ``details`` are added to that object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = _NOTHING,
        details: Mapping[str, object] = _NOTHING,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers
        self.details = details

    @property
    def body(self) -> dict[str, object]:
        """The JSON of the answer, or of the event within a stream."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": {**error, **self.details}}


def wrong(param: str, message: str) -> ApiError:
    """400: the field ``param`` cannot be used."""
    return ApiError(400, message, param=param, code="invalid_value")


def too_long(param: str, *, prompt_tokens: int, limit: int, context_length: int) -> ApiError:
    """400: the prompt does not fit; with the counts, which llama-server's clients read too."""
    return ApiError(
        400,
        f"This model's maximum context length is {context_length} tokens, of which a prompt may take "
        f"{limit}. However, your prompt has {prompt_tokens} tokens. Shorten it, or let the oldest "
        'turns be dropped: "truncation": "auto".',
        param=param,
        code="context_length_exceeded",
        details={"n_prompt_tokens": prompt_tokens, "n_ctx": context_length},
    )


def translated(error: TanukiError) -> ApiError:
    """What the engine says, in the program's own language."""
    message = error.message
    if isinstance(error, PromptTooLongError):
        details = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.limit}
        return ApiError(400, message, code="context_length_exceeded", details=details)
    if isinstance(error, RequestError):
        return wrong(error.param, error.english)
    if isinstance(error, InputError):
        return ApiError(400, message, code="invalid_value")
    return ApiError(500, message, kind="server_error")


def ended() -> ApiError:
    """503: the server ends before this answer does."""
    return ApiError(503, "The server is shutting down.", kind="server_error", code="shutting_down")

"""A request for a chat, and what it has in common with one for a completion. Knows no model."""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tanuki_cli.engines.answers import MAX_ALTERNATIVES
from tanuki_cli.i18n import N_
from tanuki_cli.protocol.fields import Fields, RequestError
from tanuki_cli.protocol.shapes import read_shape
from tanuki_cli.protocol.support import CHAT, MAX_STOPS, refuse_end_ids, unknown_fields
from tanuki_cli.protocol.turns import Turns, read_turns
from tanuki_cli.sampling import MAX_SEED, SAMPLING_SPECS, SamplingOptions

if TYPE_CHECKING:
    from tanuki_cli.engines.shapes import Shape

MAX_ANSWERS: Final = 64
"""Prompts of a request times the answers to each."""
_LARGEST: Final = 2**63
_SPECS: Final = {spec.key: spec for spec in SAMPLING_SPECS}


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What a request says: ``n`` answers to ``turns``, in the ``shape`` where there is one.

    ``logprobs`` is how many alternatives are told of each token; None where nothing is. ``truncates`` is
    whether the oldest turns may be dropped. ``ignored`` are the fields that nobody here knows.
    """

    turns: Turns
    options: SamplingOptions
    shape: "Shape | None"
    logprobs: int | None
    n: int
    stream: bool
    truncates: bool
    ignored: tuple[str, ...]


def read_chat_request(
    request: Fields,
    defaults: SamplingOptions,
    *,
    also: frozenset[str] = frozenset(),
    end_ids: frozenset[int] = frozenset(),
) -> ChatRequest:
    """The body of a request to ``/v1/chat/completions``; what it leaves out is as in ``defaults``.

    ``also`` are fields that the caller reads itself, ``end_ids`` what ends the model's answers anyway.

    Raises RequestError, and InputError for a shape that cannot be used.
    """
    ignored = unknown_fields(request, CHAT | also)
    refuse_end_ids(request, end_ids)
    alternatives = request.integer("top_logprobs", 0, MAX_ALTERNATIVES)
    logprobs = (alternatives or 0) if request.flag("logprobs") else None
    if alternatives and logprobs is None:
        raise RequestError("top_logprobs", N_("'{name}' needs 'logprobs': true."))
    return ChatRequest(
        turns=read_turns(request, goes_on=request.raw("add_generation_prompt") is not True),
        options=read_options(request, defaults),
        shape=read_shape(request),
        logprobs=logprobs,
        n=request.integer("n", 1, MAX_ANSWERS) or 1,
        stream=request.flag("stream"),
        truncates=_truncation(request),
        ignored=ignored,
    )


def read_options(request: Fields, defaults: SamplingOptions) -> SamplingOptions:
    """How tokens are chosen; what the request leaves out is as in ``defaults``."""
    seed = request.integer("seed", -_LARGEST, _LARGEST - 1)
    stops = request.texts("stop", most=MAX_STOPS)
    if "" in stops:
        raise RequestError("stop", N_("'{name}' must not hold an empty text."))
    top_k = request.integer("top_k", -1)
    return SamplingOptions(
        temperature=_number(request, "temperature", "temperature", defaults.temperature),
        top_p=_number(request, "top_p", "top_p", defaults.top_p),
        # -1 is vLLM's word for off.
        top_k=defaults.top_k if top_k is None else max(0, min(top_k, _most("top_k"))),
        min_p=_number(request, "min_p", "min_p", defaults.min_p),
        repeat_penalty=_number(
            request,
            "repetition_penalty",
            "repeat_penalty",
            _number(request, "repeat_penalty", "repeat_penalty", defaults.repeat_penalty),
        ),
        max_new_tokens=_limit(request, defaults),
        stop=stops or defaults.stop,
        # -1 is how llama-server's clients say "any"; the others are folded into what engines take.
        seed=defaults.seed if seed is None else None if seed == -1 else seed % (MAX_SEED + 1),
    )


def _number(request: Fields, name: str, key: str, default: float) -> float:
    spec = _SPECS[key]
    assert spec.minimum is not None
    assert spec.maximum is not None
    found = request.number(name, spec.minimum, spec.maximum)
    return default if found is None else found


def _limit(request: Fields, defaults: SamplingOptions) -> int:
    """The longest answer. Clients ask for more than any context has; that is as much as there is."""
    limits = [_tokens(request, name) for name in ("max_completion_tokens", "max_tokens")]
    found = next((limit for limit in limits if limit is not None), defaults.max_new_tokens)
    return min(found, _most("max_new_tokens"))


def _tokens(request: Fields, name: str) -> int | None:
    value = request.raw(name)
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        raise RequestError(
            name, N_("'{name}' must be at least 1; an answer ends where the context does, whatever it says.")
        )
    return request.integer(name, 1)


def _most(key: str) -> int:
    return int(_SPECS[key].maximum or 0)


def _truncation(request: Fields) -> bool:
    """Whether the oldest turns may be dropped, in the words of OpenAI's Responses."""
    wanted = request.text("truncation")
    if wanted not in (None, "auto", "disabled"):
        raise RequestError("truncation", N_("'{name}' must be one of: auto, disabled."))
    return wanted == "auto"

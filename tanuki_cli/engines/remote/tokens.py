"""The tokens in what a server sends: their ids, and their log probabilities where these were asked for.

Fields of a wrong type count as absent, and a log probability that is no number as unknown.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.remote.failures import JsonObject, as_count

AS_IDS: Final = "return_tokens_as_token_ids"
"""What makes vLLM name tokens by their ids among its log probabilities, not by a text that is ambiguous."""
_PREFIX: Final = "token_id:"
_MOST_DIGITS: Final = 10


def llama_server_tokens(event: JsonObject) -> tuple[Token, ...] | None:
    """Those of an event of llama-server's ``/completion``; None where it has no ids."""
    ids = _ids(event.get("tokens"))
    if ids is None:
        return None
    entries = _mappings(event.get("completion_probabilities"))
    if [entry.get("id") for entry in entries] != list(ids):
        return tuple(map(Token, ids))
    return tuple(
        Token(id_, _logprob(entry.get("logprob")), _ordered(_llama_server_pairs(entry)))
        for id_, entry in zip(ids, entries, strict=True)
    )


def completion_tokens(choice: JsonObject) -> tuple[Token, ...] | None:
    """Those of a choice of vLLM's ``/v1/completions``; None where it has no ids."""
    ids = _ids(choice.get("token_ids"))
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return None if ids is None else tuple(map(Token, ids))
    named = tuple(map(_named_id, _items(logprobs.get("tokens"))))
    if ids is None and named and None not in named:
        ids = tuple(id_ for id_ in named if id_ is not None)
    if ids is None:
        return None
    own, alternatives = _items(logprobs.get("token_logprobs")), _items(logprobs.get("top_logprobs"))
    if not len(ids) == len(own) == len(alternatives):
        return tuple(map(Token, ids))
    return tuple(
        Token(id_, _logprob(value), _ordered(_named_pairs(others)))
        for id_, value, others in zip(ids, own, alternatives, strict=True)
    )


def prompt_tokens(choice: JsonObject, ids: Sequence[int]) -> tuple[Token, ...] | None:
    """``ids``, the prompt, as vLLM's ``prompt_logprobs`` tell of them; None where they do not."""
    entries = _items(choice.get("prompt_logprobs"))
    if len(entries) != len(ids):
        return None
    return tuple(_prompt_token(id_, entry) for id_, entry in zip(ids, entries, strict=True))


def _prompt_token(id_: int, entry: object) -> Token:
    pairs = [
        (_id(name), _logprob(value.get("logprob")))
        for name, value in _mapping(entry).items()
        if isinstance(value, dict)
    ]
    known = dict(pairs)
    return Token(id_, known.get(id_), _ordered(pairs))


def _llama_server_pairs(entry: JsonObject) -> list[tuple[int | None, float | None]]:
    others = _mappings(entry.get("top_logprobs"))
    return [(as_count(other.get("id")), _logprob(other.get("logprob"))) for other in others]


def _named_pairs(others: object) -> list[tuple[int | None, float | None]]:
    return [(_named_id(name), _logprob(value)) for name, value in _mapping(others).items()]


def _ordered(pairs: Sequence[tuple[int | None, float | None]]) -> tuple[tuple[int, float], ...]:
    known = [(id_, value) for id_, value in pairs if id_ is not None and value is not None]
    return tuple(sorted(known, key=lambda pair: (-pair[1], pair[0])))


def _named_id(name: object) -> int | None:
    return _id(name.removeprefix(_PREFIX)) if isinstance(name, str) and name.startswith(_PREFIX) else None


def _id(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _MOST_DIGITS else None


def _logprob(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _ids(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return tuple(value) if all(as_count(id_) is not None for id_ in value) else None


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _mappings(value: object) -> list[JsonObject]:
    return [entry for entry in _items(value) if isinstance(entry, dict)]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}

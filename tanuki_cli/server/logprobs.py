"""Log probabilities in OpenAI's two forms. ``</s>`` is left out: the tokens joined are the text."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from tanuki_cli.engines.answers import Token
from tanuki_cli.tokenizer import ChatTokenizer

_LEAST: Final = -9999.0
"""For a probability of zero: JSON has no infinity, and OpenAI's clients know this number."""


def chat_logprobs(tokens: Sequence[Token], tokenizer: ChatTokenizer, *, most: int) -> dict[str, Any]:
    """The ``logprobs`` of the chat endpoint, with at most so many alternatives a token."""
    content = [
        {
            **_described(token.id, token.logprob, tokenizer),
            "top_logprobs": [
                _described(id_, logprob, tokenizer) for id_, logprob in token.alternatives[:most]
            ],
        }
        for token in tokens
        if token.id not in tokenizer.end_ids
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Token], tokenizer: ChatTokenizer, *, most: int) -> dict[str, Any]:
    """The ``logprobs`` of the completions endpoint; offsets count within this piece."""
    shown = [token for token in tokens if token.id not in tokenizer.end_ids]
    texts = [_text(token.id, tokenizer) for token in shown]
    offsets = [0, *accumulate(map(len, texts))][: len(texts)]
    return {
        "tokens": texts,
        "token_logprobs": [_number(token.logprob) for token in shown],
        "top_logprobs": [
            {_text(id_, tokenizer): _number(logprob) for id_, logprob in token.alternatives[:most]}
            for token in shown
        ],
        "text_offset": offsets,
    }


def _described(id_: int, logprob: float | None, tokenizer: ChatTokenizer) -> dict[str, Any]:
    content = tokenizer.piece_bytes(id_)
    return {"token": _text(id_, tokenizer), "logprob": _number(logprob), "bytes": list(content)}


def _text(id_: int, tokenizer: ChatTokenizer) -> str:
    """The piece as text; a byte of a character as OpenAI shows it, a control piece by its name."""
    content = tokenizer.piece_bytes(id_)
    try:
        return content.decode() or tokenizer.piece(id_) or ""
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def _number(logprob: float | None) -> float:
    return _LEAST if logprob is None else max(logprob, _LEAST)

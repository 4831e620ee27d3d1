"""Log probabilities in OpenAI's two forms. ``</s>`` is left out: the tokens joined are the text.

With ``by_id``, vLLM's way, a token is named by its id, which no two share, and ``</s>`` is one of them.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from tanuki_cli.engines.answers import Token
from tanuki_cli.tokenizer import ChatTokenizer

_LEAST: Final = -9999.0
"""For a probability of zero: JSON has no infinity, and OpenAI's clients know this number."""


def chat_logprobs(
    tokens: Sequence[Token], tokenizer: ChatTokenizer, *, most: int, by_id: bool = False
) -> dict[str, Any]:
    """The ``logprobs`` of the chat endpoint, with at most so many alternatives a token."""
    content = [
        {
            **_described(token.id, token.logprob, tokenizer, by_id),
            "top_logprobs": [
                _described(id_, logprob, tokenizer, by_id) for id_, logprob in token.alternatives[:most]
            ],
        }
        for token in _shown(tokens, tokenizer, by_id)
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    tokens: Sequence[Token], tokenizer: ChatTokenizer, *, most: int, by_id: bool = False
) -> dict[str, Any]:
    """The ``logprobs`` of the completions endpoint; offsets count within this piece."""
    shown = _shown(tokens, tokenizer, by_id)
    texts = [_text(token.id, tokenizer) for token in shown]
    offsets = [0, *accumulate(map(len, texts))][: len(texts)]
    return {
        "tokens": [_name(token.id, tokenizer, by_id) for token in shown],
        "token_logprobs": [_number(token.logprob) for token in shown],
        "top_logprobs": [
            {_name(id_, tokenizer, by_id): _number(logprob) for id_, logprob in token.alternatives[:most]}
            for token in shown
        ],
        "text_offset": offsets,
    }


def _shown(tokens: Sequence[Token], tokenizer: ChatTokenizer, by_id: bool) -> list[Token]:
    return [token for token in tokens if by_id or token.id not in tokenizer.end_ids]


def _described(id_: int, logprob: float | None, tokenizer: ChatTokenizer, by_id: bool) -> dict[str, Any]:
    content = tokenizer.piece_bytes(id_)
    return {"token": _name(id_, tokenizer, by_id), "logprob": _number(logprob), "bytes": list(content)}


def _name(id_: int, tokenizer: ChatTokenizer, by_id: bool) -> str:
    return f"token_id:{id_}" if by_id else _text(id_, tokenizer)


def _text(id_: int, tokenizer: ChatTokenizer) -> str:
    """The piece as text; a byte of a character as OpenAI shows it, a control piece by its name."""
    content = tokenizer.piece_bytes(id_)
    try:
        return content.decode() or tokenizer.piece(id_) or ""
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def _number(logprob: float | None) -> float:
    return _LEAST if logprob is None else max(logprob, _LEAST)

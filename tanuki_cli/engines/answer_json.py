"""Log probabilities as JSON: of tokens and of choices."""

from collections.abc import Iterable, Sequence
from math import exp, fsum, log
from typing import Any

from tanuki_cli.engines.answers import AnswerScore, Token
from tanuki_cli.tokenizer import ChatTokenizer


def tokens_json(tokens: Iterable[Token], tokenizer: ChatTokenizer) -> list[dict[str, Any]]:
    """One object per token: what it is, its log probability, and the likeliest in its place."""
    return [
        {
            **_token_json(token.id, token.logprob, tokenizer),
            "alternatives": [_token_json(id_, logprob, tokenizer) for id_, logprob in token.alternatives],
        }
        for token in tokens
    ]


def choices_json(scores: Sequence[AnswerScore]) -> list[dict[str, Any]]:
    """One object per choice, the likeliest first: its probability as an answer, and among the choices."""
    best = max(score.logprob for score in scores)
    total = best + log(fsum(exp(score.logprob - best) for score in scores))
    return [
        {
            "text": score.text,
            "logprob": score.logprob,
            "probability": exp(score.logprob),
            "normalized": exp(score.logprob - total),
        }
        for score in sorted(scores, key=lambda score: -score.logprob)
    ]


def _token_json(id_: int, logprob: float | None, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """``text`` is None for what is no text by itself: ``bytes`` are a part of a character."""
    content = tokenizer.piece_bytes(id_)
    try:
        text = content.decode() if content else tokenizer.piece(id_)
    except UnicodeDecodeError:
        return {"id": id_, "text": None, "bytes": list(content), "logprob": logprob}
    return {"id": id_, "text": text, "logprob": logprob}

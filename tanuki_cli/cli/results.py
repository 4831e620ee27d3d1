"""What ``--json`` and ``--jsonl`` print of an answer."""

from collections.abc import Sequence
from typing import Any

from msgspec import to_builtins

from tanuki_cli.engines.answer_json import choices_json, tokens_json
from tanuki_cli.engines.answers import Token
from tanuki_cli.loading import LoadedModel
from tanuki_cli.session import ChatSession


def result_json(session: ChatSession, model: LoadedModel) -> dict[str, Any]:
    """The object that INTERFACE promises; times in seconds."""
    turn = session.last_turn
    assert turn is not None
    sampling = {**to_builtins(session.options), "seed": turn.seed}
    return {
        "id": turn.node_id,
        "conversation_id": session.conversation.id,
        "model": session.engine.info.model,
        "answer": turn.text,
        "finish_reason": turn.finish_reason,
        "usage": to_builtins(turn.usage),
        "timings": {
            "load_s": _rounded(model.load_s),
            "ttft_s": _rounded(turn.ttft_s),
            "tokens_per_s": _rounded(turn.tokens_per_s),
            "total_s": _rounded(turn.total_s),
        },
        "sampling": sampling,
        **logprobs_json(session, turn.tokens),
        **({"choices": choices_json(turn.scores)} if turn.scores else {}),
    }


def logprobs_json(session: ChatSession, tokens: Sequence[Token]) -> dict[str, Any]:
    """The log probabilities of ``tokens``, where they were asked for and the engine knows them."""
    tokenizer = session.engine.tokenizer
    if not session.form.logprobs or tokenizer is None:
        return {}
    return {"logprobs": tokens_json(tokens, tokenizer)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""How likely a given answer is, as JSON and for people."""

from typing import Any

from tanuki_cli.engines.answers import AnswerScore
from tanuki_cli.i18n import _
from tanuki_cli.text.width import cell_width, pad_cells


def score_json(score: AnswerScore) -> dict[str, Any]:
    """How likely a given answer is as a whole; ``</s>`` is one of its tokens."""
    return {
        "answer": score.text,
        "logprob": score.logprob,
        "perplexity": score.perplexity,
        "tokens": len(score.tokens),
    }


def score_lines(score: AnswerScore) -> list[str]:
    """The same for people."""
    rows = (
        (_("log probability"), f"{score.logprob:.4f}"),
        (_("perplexity"), f"{score.perplexity:.4f}"),
        (_("tokens"), str(len(score.tokens))),
    )
    width = max(cell_width(name) for name, _value in rows)
    return [f"{pad_cells(name, width)}  {value}" for name, value in rows]

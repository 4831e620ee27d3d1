"""How likely a given answer is, as JSON and for people."""

from typing import Any

from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.results import logprobs_json
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import AnswerScore
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.session import ChatSession
from tanuki_cli.text.width import cell_width, pad_cells


def print_score(
    context: CommandContext, session: ChatSession, question: str, answer: str, *, as_json: bool
) -> None:
    """Say how likely ``answer`` to ``question`` is. Raises InterruptedByUser after a Ctrl-C."""
    messages = session.prompt_messages(Message("user", question))
    with session.interruptible():
        try:
            (score,) = session.engine.score(messages, [answer], alternatives=session.form.logprobs)
        except GenerationCancelled as exc:
            raise InterruptedByUser(_("Interrupted.")) from exc
    if as_json:
        numbers = {**_score_json(score), **logprobs_json(session, score.tokens)}
        context.console.write_json({"model": session.engine.info.model, **numbers})
        return
    for line in _score_lines(score):
        context.console.write(line + "\n")


def _score_json(score: AnswerScore) -> dict[str, Any]:
    """How likely a given answer is as a whole; ``</s>`` is one of its tokens."""
    return {
        "answer": score.text,
        "logprob": score.logprob,
        "perplexity": score.perplexity,
        "tokens": len(score.tokens),
    }


def _score_lines(score: AnswerScore) -> list[str]:
    """The same for people."""
    rows = (
        (_("log probability"), f"{score.logprob:.4f}"),
        (_("perplexity"), f"{score.perplexity:.4f}"),
        (_("tokens"), str(len(score.tokens))),
    )
    width = max(cell_width(name) for name, _value in rows)
    return [f"{pad_cells(name, width)}  {value}" for name, value in rows]

"""What an answer took, in words."""

from tanuki_cli.i18n import _
from tanuki_cli.session import TurnStatistics


def describe_turn(turn: TurnStatistics, *, load_s: float | None = None) -> str:
    """One line: load time, time to first text, tokens, speed, seed."""
    parts: list[str] = []
    if load_s is not None:
        parts.append(_("load {seconds:.2f} s").format(seconds=load_s))
    if turn.ttft_s is not None:
        parts.append(_("first text {seconds:.2f} s").format(seconds=turn.ttft_s))
    usage = turn.usage
    parts.append(
        _("prompt {prompt} tokens ({cached} reused)").format(
            prompt=usage.prompt_tokens, cached=usage.cached_tokens
        )
    )
    parts.append(_("answer {count} tokens").format(count=usage.completion_tokens))
    if turn.tokens_per_s is not None:
        parts.append(_("{speed:.1f} tokens/s").format(speed=turn.tokens_per_s))
    if turn.seed is not None:
        parts.append(_("seed {seed}").format(seed=turn.seed))
    return " · ".join(parts)

"""Asking an engine one thing, to the end."""

from collections.abc import Callable, Sequence
from contextlib import closing

from msgspec import Struct

from tanuki_cli.conversation import FinishReason, Message, Usage
from tanuki_cli.engines.base import Engine
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.sampling import SamplingOptions


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer. ``dropped`` counts the oldest messages that did not fit into the context."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    dropped: int


def complete(
    engine: Engine,
    messages: Sequence[Message],
    options: SamplingOptions,
    *,
    report: Callable[[int], None] = lambda count: None,
    receive: Callable[[str], None] = lambda text: None,
) -> Completion:
    """The answer to the last of ``messages``; ``report`` is told of tokens as they come, ``receive`` of text.

    Ctrl-C stops the model at once and raises InterruptedByUser; what had come is dropped. Raises what
    :meth:`Engine.stream` raises.
    """
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        engine.cancel()

    texts: list[str] = []
    finish_reason: FinishReason = "interrupted"
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    dropped = 0
    with on_interrupt(interrupt), closing(engine.stream(messages, options)) as chunks:
        for chunk in chunks:
            if interrupted:
                engine.cancel()  # the first request may have come before the engine began
                break
            texts.append(chunk.text)
            report(chunk.token_count)
            if chunk.text:
                receive(chunk.text)
            if chunk.plan is not None:
                dropped = chunk.plan.dropped
            finish_reason = chunk.finish_reason or finish_reason
            usage = chunk.usage or usage
    if interrupted or finish_reason == "interrupted":
        raise InterruptedByUser(_("Interrupted."))
    return Completion(text="".join(texts), finish_reason=finish_reason, usage=usage, dropped=dropped)

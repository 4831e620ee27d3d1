"""``tanuki bench``: how fast a model is on this machine, and what the figures mean."""

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated, Final

import psutil
import typer

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import ModelOptions, takes
from tanuki_cli.cli.target import open_model
from tanuki_cli.engines.base import TokenModel
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.errors import InputError
from tanuki_cli.hardware import format_bytes
from tanuki_cli.i18n import N_, _
from tanuki_cli.sampling import SamplingOptions

bench_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """Measure the speed of a model on this machine.

Examples:
  tanuki bench -m mame
  tanuki bench -m tanuki-8b:q4_k_m --json

Every figure is the median of three runs. Nothing is saved."""
)
_RUNS: Final = 3
_PROMPT_TOKENS: Final = 512
_ANSWER_TOKENS: Final = 64
_GREEDY: Final = SamplingOptions(temperature=0.0, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured: seconds, tokens per second, bytes."""

    model: str
    engine: str
    device: str
    load_s: float
    prompt_tokens: int
    prompt_tokens_per_s: float
    answer_tokens: int
    answer_tokens_per_s: float
    next_turn_s: float
    memory_bytes: int


@bench_app.command(help=_HELP)
@takes(ModelOptions)
def bench(
    ctx: typer.Context,
    options: ModelOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
) -> None:
    """Measure the speed of a model on this machine."""
    context = prepare(ctx, options)
    with closing(open_model(context, options)) as opened:
        engine = opened.engine
        if not isinstance(engine, LocalEngine):
            raise InputError(
                _("A served model is measured where it is served."), hint="tanuki ask -v -m http://…"
            )
        context.console.note(_("Measuring {model}; this may take a minute.").format(model=engine.info.model))
        speed = measure(engine.token_model, load_s=opened.load_s)
    if as_json:
        context.console.write(json.dumps(asdict(speed), ensure_ascii=False) + "\n")
    else:
        _show(context, speed)


def measure(model: TokenModel, *, load_s: float) -> Speed:
    """Run a prompt, an answer and a second turn on ``model``, three times each.

    Token ids are arbitrary: how long a step takes does not depend on them.
    """
    prompt_tokens = min(_PROMPT_TOKENS, model.context_length // 2)
    answer_tokens = min(_ANSWER_TOKENS, model.context_length // 4)
    prompts, answers, turns = [], [], []
    for run in range(_RUNS):
        # Another first id each time: nothing of the run before is in the cache.
        prompt = [13 + run, *(20 + position % 200 for position in range(prompt_tokens - 1))]
        seconds, answer = _timed(model, prompt, answer_tokens)
        prompts.append(prompt_tokens / seconds[0])
        answers.append((len(seconds) - 1) / sum(seconds[1:]))
        turn, _answer = _timed(model, [*prompt, *answer, 8, 8], 1)
        turns.append(turn[0])
    return Speed(
        **asdict(model.info),
        load_s=round(load_s, 3),
        prompt_tokens=prompt_tokens,
        prompt_tokens_per_s=round(statistics.median(prompts), 2),
        answer_tokens=answer_tokens,
        answer_tokens_per_s=round(statistics.median(answers), 2),
        next_turn_s=round(statistics.median(turns), 4),
        memory_bytes=psutil.Process().memory_info().rss,
    )


def _timed(model: TokenModel, prompt: Sequence[int], count: int) -> tuple[list[float], list[int]]:
    """Seconds until each of ``count`` ids came, and the ids."""
    seconds: list[float] = []
    answer: list[int] = []
    before = time.perf_counter()
    with closing(model.generate(prompt, _GREEDY)) as ids:
        for id_ in islice(ids, count):
            now = time.perf_counter()
            seconds.append(now - before)
            answer.append(id_)
            before = now
    return seconds, answer


def _show(context: CommandContext, speed: Speed) -> None:
    rows = (
        (_("load"), f"{speed.load_s:.2f} s", _("until the model can be asked")),
        (
            _("prompt"),
            _("{speed:.1f} tokens/s").format(speed=speed.prompt_tokens_per_s),
            _("how fast a question or a file is read"),
        ),
        (
            _("answer"),
            _("{speed:.1f} tokens/s").format(speed=speed.answer_tokens_per_s),
            _("how fast the answer comes; people read about 10"),
        ),
        (_("next turn"), f"{speed.next_turn_s:.3f} s", _("until an answer begins in a chat that goes on")),
        (_("memory"), format_bytes(speed.memory_bytes), _("what the program takes now")),
    )
    out = context.console.out
    out.print(f"{speed.model} · {speed.engine} · {speed.device}")
    for name, figure, meaning in rows:
        out.print(f"  {name}: {figure}  ({meaning})", soft_wrap=True)

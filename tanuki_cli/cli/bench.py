"""``tanuki bench``: how fast a model is on this machine, and what the figures mean."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Annotated, Final

import typer
from msgspec import to_builtins

from tanuki_cli.catalog import LocalModel, Target
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.model import open_model
from tanuki_cli.cli.options import ModelOptions, takes
from tanuki_cli.engines.llama_cpp.selection import explain_choice
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.speed import RUNS, Speed, measure_speed
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.terminal.status_row import StatusRow

bench_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """Measure the speed of a model on this machine.

Examples:
  tanuki bench -m mame
  tanuki bench -m tanuki-8b:q4_k_m --json
  tanuki bench --tune

Every figure is the median of three runs. No conversation is saved."""
)


@bench_app.command(help=_HELP)
@takes(ModelOptions)
def bench(
    ctx: typer.Context,
    options: ModelOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help=N_("First measure anew how the model runs fastest, and keep that."))
    ] = False,
) -> None:
    """Measure the speed of a model on this machine."""
    context = prepare(ctx, options)

    def report_trial(line: str) -> None:
        context.console.note(f"  {line}")

    with closing(
        open_model(context, options, use="chat", report_trial=report_trial if tune else None)
    ) as opened:
        engine = opened.engine
        if not isinstance(engine, LocalEngine):
            raise InputError(
                _("A served model is measured where it is served."), hint="tanuki ask -v -m http://…"
            )
        if not tune and (choice := _choice(context, opened.target)):
            context.console.note(choice)
        context.console.note(
            _("Measuring {model}, {count} runs; a large model takes minutes.").format(
                model=engine.info.model, count=RUNS
            )
        )
        with _progress(context) as progress:
            speed = measure_speed(engine.token_model, load_s=opened.load_s, progress=progress)
    if as_json:
        context.console.write_json(to_builtins(speed))
    else:
        _show(context, speed)


def _choice(context: CommandContext, target: Target) -> str | None:
    """What the setting ``engine`` chooses, where it does, and why."""
    if context.settings.engine != "auto" or not isinstance(target, LocalModel) or target.format != "gguf":
        return None
    return explain_choice(target.path, context.directories.cache)


@contextmanager
def _progress(context: CommandContext) -> Iterator[Callable[[str], None]]:
    """A line that says what is being measured; off a terminal nothing."""
    console = context.console
    if console.quiet or not console.err_can_move_cursor:
        yield lambda text: None
        return
    with StatusRow(console.err) as row:
        yield row.update


def _show(context: CommandContext, speed: Speed) -> None:
    per_second = _("{speed:.1f} tokens/s")
    rows = [
        (_("load"), f"{speed.load_s:.2f} s", _("until the model can be asked")),
        (
            _("first token"),
            f"{speed.first_token_s:.2f} s",
            _("until the answer to a short question begins ({count} tokens)").format(
                count=speed.question_tokens
            ),
        ),
        (
            _("prompt"),
            per_second.format(speed=speed.prompt_tokens_per_s),
            _("how fast a question or a file is read"),
        ),
        (
            _("answer"),
            per_second.format(speed=speed.answer_tokens_per_s),
            _("how fast the answer comes; people read about 10"),
        ),
        (
            _("repetition"),
            per_second.format(speed=speed.repeat_tokens_per_s),
            _("how fast after a text that repeats itself, where the model goes on repeating"),
        ),
        (_("next turn"), f"{speed.next_turn_s:.3f} s", _("until an answer begins in a chat that goes on")),
    ]
    if speed.resume_s is not None:
        resumed = _("the same in a chat taken up again, with {count} tokens kept on disk").format(
            count=speed.prompt_tokens
        )
        rows.append((_("resume"), f"{speed.resume_s:.3f} s", resumed))
    rows.append((_("memory"), format_bytes(speed.memory_bytes), _("the most that the program took")))
    out = context.console.out
    out.print(f"{speed.model} · {speed.engine} · {speed.device}")
    for name, figure, meaning in rows:
        out.print(f"  {name}: {figure}  ({meaning})", soft_wrap=True)

"""``tanuki doctor``: what is there, what is wrong, and the command that mends it."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import typer
from filelock import FileLock
from msgspec import to_builtins

from tanuki_cli import __version__
from tanuki_cli.cli.checks import can_encode, examine
from tanuki_cli.cli.context import CommandContext, prepare_repair
from tanuki_cli.cli.options import OutputOptions, Scopes, takes
from tanuki_cli.engines.checking import Check, Status
from tanuki_cli.engines.llama_cpp.building import compiling
from tanuki_cli.engines.llama_cpp.building.renewal import renew
from tanuki_cli.engines.llama_cpp.building.running import SetupError
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import N_, _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.step_screen import StepScreen
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.sanitize import sanitize

doctor_app = typer.Typer(add_completion=False)

_TITLES: Final[Mapping[str, str]] = {
    "program": N_("program"),
    "packages": N_("packages"),
    "machine": N_("machine"),
    "disk": N_("disk"),
    "gpu": N_("GPU"),
    "hub": N_("model hub"),
    "settings": N_("settings"),
    "history": N_("history"),
    "terminal": N_("terminal"),
    "language": N_("language"),
}
_MARKS: Final[Mapping[Status, str]] = {"ok": "✓", "warn": "!", "fail": "✗"}
_ASCII_MARKS: Final[Mapping[Status, str]] = {"ok": "+", "warn": "!", "fail": "x"}
_STYLES: Final[Mapping[Status, str]] = {"ok": "success", "warn": "warning", "fail": "error"}


class DoctorOptions(OutputOptions):
    """The options of doctor."""

    scopes: ClassVar[Scopes] = ("network",)


@doctor_app.command(
    help=N_(
        """Check the machine, the engines and the models.

Examples:
  tanuki doctor
  tanuki doctor --offline
  tanuki doctor --build
  tanuki doctor --json | jq '.checks[] | select(.status != "ok")'"""
    )
)
@takes(DoctorOptions)
def doctor(
    ctx: typer.Context,
    options: DoctorOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
    build: Annotated[
        bool, typer.Option("--build", help=N_("Before that, build llama.cpp for this very machine."))
    ] = False,
) -> None:
    """Check everything, and print each finding as soon as it is known."""
    context = prepare_repair(ctx, options)
    if build:
        _build(context)
    checks = []
    for check in examine(context):
        checks.append(check)
        if not as_json:
            _print(context.console, check)
    if as_json:
        context.console.write_json(_as_json(checks), indent=2)
    else:
        _conclude(context, checks)


def _build(context: CommandContext) -> None:
    """Build llama.cpp and use it from now on. Raises SetupError; the old one stays then."""
    folder = context.directories.cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "llama.cpp.lock"):
            renew(StepScreen(context.console), folder / compiling.LOG_NAME, context.environ)
    except KeyboardInterrupt:
        context.console.note(_("Interrupted; the llama.cpp from before stays."))
        raise
    except OSError as exc:  # a full disk, or one that is read-only
        raise SetupError(
            _("{path} cannot be used: {reason}").format(
                path=os.fsdecode(exc.filename or folder), reason=os_reason(exc)
            ),
            hint="export TANUKI_HOME=/path/to/tanuki",
        ) from exc
    context.console.note(_("llama.cpp is built for this machine, and is used from now on."), style="success")


def _print(console: Console, check: Check) -> None:
    encoding = console.streams.stdout.encoding or "ascii"
    marks = _MARKS if can_encode("✓✗", encoding) else _ASCII_MARKS
    title = _(_TITLES[check.name]) if check.name in _TITLES else check.name
    text = sanitize(f"{marks[check.status]} {title}: {check.detail}")
    style = _STYLES[check.status] if check.status != "ok" else ""
    for line in wrap_text(text, console.out.width) if console.out_is_terminal else [text]:
        console.out.print(line, style=style, soft_wrap=True)
    if check.fix:
        console.out.print(f"    → {sanitize(check.fix)}", style="hint", soft_wrap=True)


def _conclude(context: CommandContext, checks: list[Check]) -> None:
    problems = sum(check.status != "ok" for check in checks)
    if problems:
        context.console.note(_("Findings that need attention: {count}").format(count=problems))
    else:
        context.console.note(_("Everything is in order."), style="success")


def _as_json(checks: list[Check]) -> dict[str, object]:
    worst: Status = "ok"
    for status in ("warn", "fail"):
        if any(check.status == status for check in checks):
            worst = status
    return {"version": __version__, "status": worst, "checks": [to_builtins(check) for check in checks]}

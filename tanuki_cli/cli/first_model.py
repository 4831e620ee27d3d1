"""The model that a chat begins with; on the very first run, the way to one."""

import json
from pathlib import Path
from typing import Final

import typer

from tanuki_cli.catalog import PRACTICE_NAME
from tanuki_cli.cli import this_program
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.model import open_finder, open_model
from tanuki_cli.cli.options import ModelOptions
from tanuki_cli.engines.installed import practice_runs
from tanuki_cli.errors import ModelError
from tanuki_cli.i18n import _, activate, active_language
from tanuki_cli.loading import Finder, LoadedModel, NotInstalled
from tanuki_cli.terminal.first_run.background_pull import BackgroundPull
from tanuki_cli.terminal.first_run.offer import Choice, choose

# scripts/tanuki has the question asked while llama.cpp is compiled: the first variable says where the
# choice is to be left, and that nothing else is to be done; the second brings it back.
_CHOICE_FILE: Final = "TANUKI_FIRST_CHOICE_FILE"
_CHOICE: Final = "TANUKI_FIRST_CHOICE"
_CHOICES: Final[dict[str, Choice]] = {"meanwhile": "meanwhile", "first": "first", "practice": "practice"}


def open_first_model(
    context: CommandContext, options: ModelOptions
) -> tuple[LoadedModel, BackgroundPull | None]:
    """The chosen model; where it is not here yet, what the user wants until it is.

    With a download that goes on beside the practice model, that too. Raises as
    :func:`~tanuki_cli.cli.model.open_model`, and typer's Exit for who wants neither.
    """
    settings, console = context.settings, context.console
    if file := context.environ.get(_CHOICE_FILE):
        _choose_for_later(context, options, Path(file))
        raise typer.Exit
    if options.yes or settings.offline or not console.can_ask:
        return open_model(context, options, use="chat"), None
    finder = open_finder(context, options)
    try:
        found = finder.look_up(settings.model)
    except ModelError:
        wants_any = settings.model == "auto" and practice_runs()
        if wants_any and console.confirm(_("Talk to the practice model for now?"), default=True):
            return _open_practice(context, options), None
        raise
    if not isinstance(found, NotInstalled):
        return open_model(context, options, use="chat"), None
    return _ask(context, options, finder, found)


def _choose_for_later(context: CommandContext, options: ModelOptions, file: Path) -> None:
    """Ask, and write to ``file`` what is to be done, for a start that has no engine yet.

    Nothing is written where there is nothing to ask, or nothing to be had.
    """
    if context.settings.offline or not context.console.can_ask:
        return
    finder = open_finder(context, options)
    try:
        missing = finder.look_up(context.settings.model)
    except ModelError:
        return
    if not isinstance(missing, NotInstalled):
        return
    choice: Choice = "first"
    if not options.yes:
        choice, found = _choice(context, finder, missing)
        missing = found or missing
    note = {"choice": choice, "model": missing.reference.name, "language": active_language()}
    file.write_text(json.dumps(note), encoding="utf-8")


def _ask(
    context: CommandContext, options: ModelOptions, finder: Finder, missing: NotInstalled
) -> tuple[LoadedModel, BackgroundPull | None]:
    choice = _CHOICES.get(context.environ.get(_CHOICE, ""))
    if choice is None:
        choice, still_missing = _choice(context, finder, missing)
        if still_missing is None:  # another process has brought it meanwhile
            return open_model(context, options, use="chat"), None
        missing = still_missing
    if choice == "none":
        raise typer.Exit
    if choice == "first":
        return open_model(context, options.changed({"yes": True}), use="chat"), None
    if choice == "practice":
        return _open_practice(context, options), None
    download = BackgroundPull.start(missing.reference.name, program=this_program(), environ=context.environ)
    try:
        return _open_practice(context, options), download
    except BaseException:
        download.stop()
        raise


def _choice(
    context: CommandContext, finder: Finder, missing: NotInstalled
) -> tuple[Choice, NotInstalled | None]:
    """What the user wants, and what is missing in the language that was chosen; None if nothing is now."""
    while (choice := choose(context.console, finder.offer(missing))) == "language":
        activate("en" if active_language() == "ja" else "ja")
        found = finder.look_up(context.settings.model)  # for its reason in the other language
        if not isinstance(found, NotInstalled):
            return "first", None
        missing = found
    if choice == "none":
        context.console.note(_("Nothing was downloaded. Later: {command}").format(command=context.command))
    return choice, missing


def _open_practice(context: CommandContext, options: ModelOptions) -> LoadedModel:
    return open_model(context, options, use="chat", reference=PRACTICE_NAME)

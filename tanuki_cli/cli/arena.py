"""``tanuki arena``: vote on the answers of models without knowing which is which."""

import random
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.cli.arena_options import VOTE, ArenaGroup, ArenaOptions, VoteCommand
from tanuki_cli.cli.arena_records import export, import_votes, vote_file
from tanuki_cli.cli.arena_results import RESULTS_HELP, results
from tanuki_cli.cli.completing import model_names
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.model import open_finder, open_model
from tanuki_cli.cli.options import takes
from tanuki_cli.engines.base import Use
from tanuki_cli.errors import InputError, PromptTooLongError
from tanuki_cli.evaluation.arena.answers import AnswerFile, PreparedAnswer
from tanuki_cli.evaluation.arena.comparison import Comparison
from tanuki_cli.evaluation.arena.contestants import (
    Contestant,
    Roster,
    find_contestants,
    fit_together,
)
from tanuki_cli.evaluation.arena.preparing import prepare_answers
from tanuki_cli.evaluation.arena.questions import Question, read_questions
from tanuki_cli.evaluation.arena.repetition import repetition_of
from tanuki_cli.evaluation.arena.schedule import Matchup, Schedule
from tanuki_cli.evaluation.arena.votes import VoteFile
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.terminal.arena.play import Play, PlayOptions
from tanuki_cli.terminal.arena.voter import ScriptVoter, TerminalVoter, Voter, menu
from tanuki_cli.terminal.step_progress import StepProgress

_LARGE_BYTES: Final = 1 << 30
_HELP: Final = N_(
    """Compare the answers of models blindly, and rate the models.

Examples:
  tanuki arena tanuki-8b:q4_k_m tanuki-8b:q8_0
  tanuki arena mame http://localhost:8000/v1 --prompts questions.txt
  tanuki arena results
  tanuki arena results --style-control --svg ratings.svg
  tanuki arena import LLMChat.jsonl
  tanuki arena export -o votes.jsonl

A vote is a key and Enter; the models are named after it. More than two models: the two whose order is
least certain come next. With --prompts all answers are made first, and kept: the same command goes on."""
)


arena_app = typer.Typer(cls=ArenaGroup, add_completion=False, help=_HELP)


@arena_app.command(VOTE, help=_HELP, hidden=True, cls=VoteCommand)
@takes(ArenaOptions)
def vote(
    ctx: typer.Context,
    options: ArenaOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL MODEL...",
            help=N_("Two models or more: names, files, servers."),
            autocompletion=model_names,
        ),
    ] = None,
) -> None:
    """Compare the answers of models blindly."""
    context = prepare(ctx, options)
    if options.again is None:
        plan = _plan(context, options, models or [])
    else:
        context, plan = _plan_again(context, options, options.again, models or [])
    memory = DigestMemory(context.directories.cache / "digests.json")
    contestants = find_contestants(
        plan.models, open_finder(context, options).find, memory, progress=_reading(context)
    )
    _note_same_files(context, contestants)
    schedule = Schedule(
        contestants,
        plan.questions,
        plan.file.read().votes,
        system=context.settings.system,
        sampling=context.settings.sampling,
        rng=random.Random(),
    )
    together = fit_together(contestants, inspect_machine(context.environ))
    use: Use = "many" if plan.questions else "chat"
    with Roster(partial(_load, context, options, use), memory, together=together) as roster:
        answers = _answers(context, options, contestants, schedule, roster) if plan.questions else {}
        if not plan.questions and together:
            for contestant in contestants:
                roster.model(contestant)  # now, and not before the first answer
        play = Play(
            console=context.console,
            settings=context.settings,
            schedule=schedule,
            file=plan.file,
            voter=_voter(context),
            compare=partial(_comparison, context, options, roster),
            answers=answers,
            options=PlayOptions(
                blind_to_the_end=options.blind_to_the_end,
                typed=not plan.questions,
                standings=_standings_command(context, plan.file),
            ),
        )
        _run(context, play)


def _standings_command(context: CommandContext, file: VoteFile) -> str:
    named = file.path != vote_file(context, None).path
    return f"tanuki arena results --file {shlex.quote(str(file.path))}" if named else "tanuki arena results"


class _Plan(Struct, frozen=True, kw_only=True):
    """What is compared: without ``questions`` they are typed."""

    models: Sequence[str]
    questions: Sequence[Question]
    file: VoteFile


def _plan(context: CommandContext, options: ArenaOptions, models: Sequence[str]) -> _Plan:
    category = options.category_name
    questions = (
        read_questions(options.prompts, category=category, note=context.console.note)
        if options.prompts
        else []
    )
    return _Plan(models=models, questions=questions[: options.count], file=vote_file(context, options.file))


def _plan_again(
    context: CommandContext, options: ArenaOptions, path: Path, models: Sequence[str]
) -> tuple[CommandContext, _Plan]:
    """The plan of an earlier file of votes, and the settings as they were then."""
    if models or options.prompts:
        raise InputError(
            _("--again takes models and questions from its file."), hint=f"tanuki arena --again {path}"
        )
    earlier = repetition_of(path)
    file = VoteFile(options.file or earlier.file)
    context.console.note(_("The new votes go to {path}.").format(path=file.path))
    settings = replace(context.settings, system=earlier.system, sampling=earlier.sampling)
    plan = _Plan(models=earlier.models, questions=earlier.questions[: options.count], file=file)
    return replace(context, settings=settings), plan


def _run(context: CommandContext, play: Play) -> None:
    play.run()
    if not (play.votes or play.complete or context.console.can_ask):
        raise InputError(
            _("No vote came."),
            hint=_("Vote at a terminal, or give lines of questions and votes: {menu}").format(menu=menu()),
        )


def _voter(context: CommandContext) -> Voter:
    console = context.console
    return TerminalVoter(console) if console.can_ask else ScriptVoter(console)


def _load(context: CommandContext, options: ArenaOptions, use: Use, name: str) -> LoadedModel:
    return open_model(context, options, use=use, reference=name)


def _comparison(
    context: CommandContext, options: ArenaOptions, roster: Roster, matchup: Matchup
) -> Comparison:
    return Comparison(
        matchup,
        roster,
        system=context.settings.system,
        sampling=context.settings.sampling,
        category=options.category_name,
        stream=not options.no_stream,
    )


def _answers(
    context: CommandContext,
    options: ArenaOptions,
    contestants: Sequence[Contestant],
    schedule: Schedule,
    roster: Roster,
) -> dict[str, PreparedAnswer]:
    """All answers that are needed, those of earlier runs included, with the progress shown."""

    def too_long(question: Question, error: PromptTooLongError) -> None:
        context.console.warn(f"{question.turns[0][:40]}… {error.message}")

    if schedule.remaining:
        context.console.note(
            _("The answers are made first, so that no vote waits. Ctrl-C stops; they are kept.")
        )
    with StepProgress(context.console) as progress:
        return prepare_answers(
            contestants,
            schedule,
            roster,
            AnswerFile(context.directories.data / "arena" / "answers.jsonl"),
            system=context.settings.system,
            sampling=context.settings.sampling,
            places=options.places,
            progress=progress.update,
            too_long=too_long,
        )


def _reading(context: CommandContext) -> Callable[[int], None]:
    """Says once that files are read, where that takes long."""
    read = 0

    def progress(count: int) -> None:
        nonlocal read
        if count > _LARGE_BYTES:  # a whole file whose digest is remembered
            return
        if read <= _LARGE_BYTES < read + count:
            context.console.note(_("The files of the models are read once, to tell them from others."))
        read += count

    return progress


def _note_same_files(context: CommandContext, contestants: Sequence[Contestant]) -> None:
    for one, other in combinations(contestants, 2):
        if one.identity == other.identity:
            context.console.warn(
                _("{one} and {other} are the same model; every difference between them is chance.").format(
                    one=one.name, other=other.name
                )
            )


arena_app.command("results", help=RESULTS_HELP)(results)
arena_app.command("export", help=N_("Write your votes in the fields of the LLMChat records."))(export)
arena_app.command("import", help=N_("Add votes in the fields of the LLMChat records."))(import_votes)

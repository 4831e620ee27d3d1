"""``tanuki arena``: vote on the answers of models without knowing which is which."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core

from tanuki_cli.cli.arena_records import export, import_votes, vote_file
from tanuki_cli.cli.arena_results import RESULTS_HELP, results
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.model import open_finder, open_model
from tanuki_cli.cli.options import (
    AnswerOptions,
    LoadingOptions,
    SystemOption,
    model_names,
    read_count,
    takes,
)
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
from tanuki_cli.evaluation.arena.schedule import Matchup, Schedule
from tanuki_cli.evaluation.arena.votes import LONGEST_NAME
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.i18n import N_, _
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.options import OptionSpec
from tanuki_cli.terminal.arena.play import Play, PlayOptions
from tanuki_cli.terminal.arena.voter import ScriptVoter, TerminalVoter, Voter, menu
from tanuki_cli.terminal.step_progress import StepProgress

_VOTE: Final = "vote"
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
_LIMIT: Final = OptionSpec(
    key="limit", kind="integer", minimum=1, maximum=10_000, usual=20, help=N_("Only the first questions.")
)


class VoteContext(typer.Context):
    """The command that ``tanuki arena MODEL MODEL`` stands for is named without its hidden name."""

    @property
    def command_path(self) -> str:
        """As the user typed it."""
        return self.parent.command_path if self.parent is not None else "tanuki arena"


class VoteCommand(typer.core.TyperCommand):
    """The hidden command behind ``tanuki arena MODEL MODEL``; its help lists the others."""

    context_class = VoteContext

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands beside this one."""
        return [name for name in ctx.parent.command.list_commands(ctx) if name != _VOTE]

    def get_command(self, ctx: Any, name: str) -> Any:
        """A command beside this one."""
        return ctx.parent.command.get_command(ctx, name)


class ArenaGroup(typer.core.TyperGroup):
    """``results``, ``export`` and ``import``; anything else on the line are models and options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, with the hidden command put in where no other is named."""
        if not args or args[0] not in self.commands:
            args = [_VOTE, *args]
        return super().parse_args(ctx, args)


arena_app = typer.Typer(cls=ArenaGroup, add_completion=False, help=_HELP)


@dataclass(frozen=True, kw_only=True)
class ArenaOptions(AnswerOptions, SystemOption, LoadingOptions):
    """What ``tanuki arena MODEL MODEL`` takes."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", metavar="FILE", help=N_("Questions, one a line, or JSONL with turns and category.")
        ),
    ] = None
    limit: Annotated[
        str | None, typer.Option("--limit", "-n", metavar="N", help=N_("Only the first questions."))
    ] = None
    category: Annotated[
        str | None, typer.Option(metavar="NAME", help=N_("Category of the questions, where they name none."))
    ] = None
    blind_to_the_end: Annotated[
        bool, typer.Option("--blind-to-the-end", help=N_("Name no model before the last vote."))
    ] = False
    no_stream: Annotated[
        bool,
        typer.Option("--no-stream", help=N_("Show both answers when both are there: speed tells nothing.")),
    ] = False
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help=N_("Where the votes are kept."))
    ] = None


@arena_app.command(_VOTE, help=_HELP, hidden=True, cls=VoteCommand)
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
    category = _category(options)
    questions = read_questions(options.prompts, category=category) if options.prompts else []
    if options.limit is not None:
        questions = questions[: read_count(_LIMIT, options.limit)]
    memory = DigestMemory(context.directories.cache / "digests.json")
    contestants = find_contestants(
        models or [], open_finder(context, options).find, memory, progress=_reading(context)
    )
    _note_same_files(context, contestants)
    file = vote_file(context, options.file)
    schedule = Schedule(
        contestants,
        questions,
        file.read().votes,
        system=context.settings.system,
        sampling=context.settings.sampling,
        rng=random.Random(),
    )
    together = fit_together(contestants, inspect_machine(context.environ))
    with Roster(partial(_load, context, options), memory, together=together) as roster:
        answers = _answers(context, contestants, schedule, roster) if questions else {}
        if not questions and together:
            for contestant in contestants:
                roster.model(contestant)  # now, and not before the first answer
        play = Play(
            console=context.console,
            settings=context.settings,
            schedule=schedule,
            file=file,
            voter=_voter(context),
            compare=partial(_comparison, context, options, roster, category),
            answers=answers,
            options=PlayOptions(blind_to_the_end=options.blind_to_the_end, typed=not questions),
        )
        play.run()
        if not (play.votes or play.complete or context.console.can_ask):
            raise InputError(
                _("No vote came."),
                hint=_("Vote at a terminal, or give lines of questions and votes: {menu}").format(
                    menu=menu()
                ),
            )


def _category(options: ArenaOptions) -> str:
    category = " ".join((options.category or "").split())
    if len(category) > LONGEST_NAME:
        raise InputError(_("The name of the category is too long."), hint="--category 雑談")
    return category


def _voter(context: CommandContext) -> Voter:
    console = context.console
    return TerminalVoter(console) if console.can_ask else ScriptVoter(console)


def _load(context: CommandContext, options: ArenaOptions, name: str) -> LoadedModel:
    return open_model(context, options, reference=name)


def _comparison(
    context: CommandContext, options: ArenaOptions, roster: Roster, category: str, matchup: Matchup
) -> Comparison:
    return Comparison(
        matchup,
        roster,
        system=context.settings.system,
        sampling=context.settings.sampling,
        category=category,
        stream=not options.no_stream,
    )


def _answers(
    context: CommandContext, contestants: Sequence[Contestant], schedule: Schedule, roster: Roster
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

"""The options of ``tanuki arena MODEL MODEL``, and the hidden command that takes them."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core

from tanuki_cli.cli.options import (
    MOST_PLACES,
    PARALLEL,
    AnswerOptions,
    LoadingOptions,
    SystemOption,
    read_count,
)
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.votes import LONGEST_NAME
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import OptionSpec

VOTE: Final = "vote"
"""The name of the hidden command."""
_LIMIT: Final = OptionSpec(
    key="limit", kind="integer", minimum=1, maximum=10_000, usual=20, help=N_("Only the first questions.")
)


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
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar=f"1-{MOST_PLACES}",
            help=N_("Make so many answers of --prompts at a time; as many as pay by default."),
        ),
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
    again: Annotated[
        Path | None,
        typer.Option(
            "--again",
            metavar="FILE",
            help=N_("Ask the questions of this file of votes once more, with its models and options."),
        ),
    ] = None

    @property
    def places(self) -> int | None:
        """``parallel`` as a number. Raises InputError for one out of range."""
        return read_count(PARALLEL, self.parallel) if self.parallel else None

    @property
    def count(self) -> int | None:
        """``limit`` as a number. Raises InputError for one out of range."""
        return None if self.limit is None else read_count(_LIMIT, self.limit)

    @property
    def category_name(self) -> str:
        """``category`` on one line. Raises InputError if it is too long."""
        category = " ".join((self.category or "").split())
        if len(category) > LONGEST_NAME:
            raise InputError(_("The name of the category is too long."), hint="--category 雑談")
        return category


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
        return [name for name in ctx.parent.command.list_commands(ctx) if name != VOTE]

    def get_command(self, ctx: Any, name: str) -> Any:
        """A command beside this one."""
        return ctx.parent.command.get_command(ctx, name)


class ArenaGroup(typer.core.TyperGroup):
    """``results``, ``export`` and ``import``; anything else on the line are models and options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, with the hidden command put in where no other is named."""
        if not args or args[0] not in self.commands:
            args = [VOTE, *args]
        return super().parse_args(ctx, args)

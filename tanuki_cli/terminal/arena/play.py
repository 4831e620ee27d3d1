"""An arena as it is played: a question, two answers, a vote, and the names only afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import ClosedPipeError, InterruptedByUser, TanukiError
from tanuki_cli.evaluation.arena.answers import PreparedAnswer
from tanuki_cli.evaluation.arena.comparison import Comparison
from tanuki_cli.evaluation.arena.schedule import Matchup, Schedule
from tanuki_cli.evaluation.arena.votes import Turn, Vote, VoteFile
from tanuki_cli.i18n import N_, _
from tanuki_cli.interrupts import hold_interrupts
from tanuki_cli.settings.values import Settings
from tanuki_cli.terminal.answer import open_answer
from tanuki_cli.terminal.arena.voter import Voter
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.typing_ahead import hold_typing
from tanuki_cli.text.sanitize import sanitize, sanitize_line

_POSITIONS: Final = (N_("First answer"), N_("Second answer"))


class Screen:
    """Shows answers under their position, on stdout. Implements ``AnswerScreen``."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._console = console
        self._settings = settings

    def question(self, text: str, *, note: str = "") -> None:
        """A question that was not typed here."""
        if note:
            self._console.note(note)
        self._console.write("".join(f"> {line}\n" for line in sanitize(text).split("\n")) + "\n")

    @contextmanager
    def answer(self, position: int) -> Iterator[Callable[[str], None]]:
        """The heading at once; a mark stands for the answer until its first text comes."""
        self._heading(_(_POSITIONS[position]))
        writer = open_answer(self._console, self._settings)
        begun = False

        def feed(text: str) -> None:
            nonlocal begun
            if text and not begun:
                begun = True
                self._mark(False)
            writer.feed(text)

        self._mark(True)
        try:
            yield feed
        except BaseException:
            self._mark(False) if not begun else writer.interrupt()
            raise
        if begun:
            writer.finish()
        else:
            self._mark(False)
            self._console.note(_("(no answer)"))
        self._console.write("\n")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A note while both answers are made."""
        self._console.note(_("Both models answer; the answers are shown together."))
        self._mark(True)
        try:
            yield
        finally:
            self._mark(False)

    def _heading(self, text: str) -> None:
        line = f"■ {text}"
        bold = self._console.out_has_color
        self._console.write(f"\x1b[1m{line}\x1b[0m\n" if bold else f"{line}\n")

    def _mark(self, waiting: bool) -> None:
        if self._console.err_can_move_cursor and self._console.out_is_terminal:
            self._console.streams.stderr.write("\r…" if waiting else "\r\x1b[K")
            self._console.streams.stderr.flush()


class PlayOptions(Struct, frozen=True, kw_only=True):
    """``blind_to_the_end`` tells no name before the end; ``typed`` asks for questions; ``standings`` is the
    command that rates the votes."""

    blind_to_the_end: bool = False
    typed: bool = True
    standings: str = "tanuki arena results"


class Play:
    """Goes from matchup to matchup until the voter leaves or none is left.

    ``compare`` opens a comparison for a matchup; ``answers`` are the prepared ones, by key. Afterwards
    ``votes`` are those that were given, and ``complete`` says whether no prepared matchup is left.
    """

    def __init__(
        self,
        *,
        console: Console,
        settings: Settings,
        schedule: Schedule,
        file: VoteFile,
        voter: Voter,
        compare: Callable[[Matchup], Comparison],
        answers: Mapping[str, PreparedAnswer],
        options: PlayOptions,
    ) -> None:
        self.votes: list[Vote] = []
        self.complete = False
        self._console = console
        self._screen = Screen(console, settings)
        self._schedule = schedule
        self._file = file
        self._voter = voter
        self._compare = compare
        self._answers = answers
        self._options = options

    def run(self) -> None:
        """Until the end; whatever ends it, the votes are kept and told.

        Raises InterruptedByUser at Ctrl-C, ClosedPipeError, InputError for a line that is no vote.
        """
        if self._options.typed:
            self._console.note(_("Ask a question; Ctrl-D leaves."))
        try:
            with hold_typing(self._console.streams.stdin):
                while self._next():
                    pass
        except KeyboardInterrupt as exc:
            raise InterruptedByUser(_("Interrupted.")) from exc
        finally:
            self._tell_end()

    def _next(self) -> bool:
        """One comparison; False to leave."""
        if self._options.typed:
            return self._typed()
        matchup = self._schedule.next_prepared()
        if matchup is None:
            self.complete = True
            self._console.note(_("All questions have been voted on."))
            return False
        comparison = self._compare(matchup)
        comparison.begin((self._answers[matchup.keys[0]], self._answers[matchup.keys[1]]))
        left = _("{count} left").format(count=self._schedule.remaining)
        category = matchup.question.category if matchup.question else ""
        note = " · ".join(part for part in (left, sanitize_line(category)) if part)
        for number, turn in enumerate(comparison.turns):
            self._screen.question(turn.question, note="" if number else note)
            self._show(comparison, turn)
        return self._vote(comparison)

    def _typed(self) -> bool:
        comparison = self._compare(self._schedule.next_typed())
        question = self._voter.question()
        if question is None:
            return False
        if question and self._ask(comparison, question):
            return self._vote(comparison)
        return True

    def _ask(self, comparison: Comparison, question: str) -> bool:
        """Whether both answered."""
        if not self._voter.echoes:
            self._screen.question(question)
        try:
            comparison.ask(question, self._screen)
        except ClosedPipeError:
            raise
        except InterruptedByUser:
            self._console.note(_("Stopped; this question counts for nothing."))
            return False
        except TanukiError as error:
            self._console.error(error)
            return False
        self._note_same(comparison.turns[-1])
        return True

    def _show(self, comparison: Comparison, turn: Turn) -> None:
        comparison.show(turn, self._screen)
        self._note_same(turn)

    def _note_same(self, turn: Turn) -> None:
        if turn.answers[0] == turn.answers[1]:
            self._console.note(_("The two answers are the same."))

    def _vote(self, comparison: Comparison) -> bool:
        """Take the vote on what was shown, after more turns if they are wanted; False to leave."""
        while (choice := self._voter.choice()) == "more":
            question = self._voter.question()
            if question:
                self._ask(comparison, question)
        if choice == "leave":
            return False
        vote = comparison.vote(choice)
        with hold_interrupts():  # a vote that was given is kept, and told at the end
            self._file.add([vote])
            self.votes.append(vote)
            self._schedule.record(vote)
        if not self._options.blind_to_the_end:
            self._console.note(reveal(vote), style="success")
        if self._console.err_is_terminal:
            self._console.note("")  # air between the questions
        return True

    def _tell_end(self) -> None:
        if self._options.blind_to_the_end:
            for number, vote in enumerate(self.votes, 1):
                self._console.note(f"{number}  {reveal(vote)}", style="success")
        if self.votes:
            self._console.note(
                _("Votes kept: {count}. The standings: {command}").format(
                    count=len(self.votes), command=self._options.standings
                )
            )


def reveal(vote: Vote) -> str:
    """What was voted, and which model was which."""
    verdict = {
        "first": _("first better"),
        "second": _("second better"),
        "tie": _("both good"),
        "both-bad": _("both bad"),
        "skip": _("skipped"),
    }[vote.verdict]
    first, second = map(sanitize_line, vote.models)
    return _("{verdict} · first: {first} · second: {second}").format(
        verdict=verdict, first=first, second=second
    )

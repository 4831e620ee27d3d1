"""Ctrl-C in the moment in which a vote is written: both count."""

import io
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.interrupts import interruptible
from tanuki_cli.settings.values import Settings
from tanuki_cli.terminal.arena.play import Play, PlayOptions
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams


def test_ctrl_c_while_a_vote_is_written_leaves_with_it() -> None:
    written: list[Any] = []

    def add(votes: list[Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        written.extend(votes)

    nothing: Any = lambda *_arguments: None  # noqa: E731
    turn = SimpleNamespace(answers=("甲", "乙"))
    comparison: Any = SimpleNamespace(ask=nothing, turns=[turn], vote=lambda choice: choice)
    schedule: Any = SimpleNamespace(next_typed=nothing, record=nothing)
    voter: Any = SimpleNamespace(question=iter(["一", None]).__next__, choice=lambda: "first", echoes=True)
    file: Any = SimpleNamespace(add=add)
    told = io.StringIO()
    play = Play(
        console=Console(Streams(stdin=io.StringIO(), stdout=io.StringIO(), stderr=told), {}),
        settings=Settings(),
        schedule=schedule,
        file=file,
        voter=voter,
        compare=lambda _matchup: comparison,
        answers={},
        options=PlayOptions(),
    )
    with pytest.raises(InterruptedByUser), interruptible():
        play.run()
    assert len(written) == 1
    assert play.votes == written
    assert "Votes kept: 1" in told.getvalue()

"""One comparison: both models asked alike, loaded one after the other where they do not fit, and recorded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.errors import EngineError
from tanuki_cli.evaluation.arena.comparison import Comparison
from tanuki_cli.evaluation.arena.contestants import Contestant, Roster
from tanuki_cli.evaluation.arena.schedule import Matchup
from tanuki_cli.evaluation.arena.votes import VoteFile
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.loading import LoadedModel
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import Script, ScriptedEngine


class Paper:
    """Notes what is shown, and when nothing may be."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    @contextmanager
    def answer(self, position: int) -> Iterator[Callable[[str], None]]:
        self.shown.append(f"{position}:")
        yield self.shown.append

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = list(self.shown)
        yield
        assert self.shown == before


class Loader:
    """Gives engines with scripts, and notes what happens."""

    def __init__(self, *scripts: Script) -> None:
        self.events: list[str] = []
        self.engines: list[ScriptedEngine] = []
        self._scripts = list(scripts)

    def __call__(self, name: str) -> LoadedModel:
        engine = ScriptedEngine(*(self._scripts or [[f"{name}一"], [f"{name}二"], [f"{name}三"]]))
        self.events.append(f"+{name}")
        self.engines.append(engine)
        engine.close = lambda: self.events.append(f"-{name}")  # type: ignore[method-assign]
        return LoadedModel(engine=engine, reference=name, target=practice_model(), load_s=0.0)


def matchup() -> Matchup:
    a, b = (
        Contestant(
            name=name,
            target=LocalModel(name=name, format="gguf", path=Path(f"{name}.gguf")),
            identity=name,
        )
        for name in "ab"
    )
    return Matchup(models=(b, a))


def compared(roster: Roster, *, stream: bool = True, system: str | None = None) -> Comparison:
    return Comparison(
        matchup(), roster, system=system, sampling=SamplingOptions(), category="雑談", stream=stream
    )


@pytest.fixture
def memory(tmp_path: Path) -> DigestMemory:
    return DigestMemory(tmp_path / "digests.json")


@pytest.mark.parametrize("stream", [True, False])
def test_both_are_asked_alike_and_see_their_own_answers(
    memory: DigestMemory, tmp_path: Path, stream: bool
) -> None:
    loader, paper = Loader(), Paper()
    with Roster(loader, memory, together=True) as roster:
        comparison = compared(roster, stream=stream, system="短く")
        comparison.ask("問一", paper)
        comparison.ask("問二", paper)
        vote = comparison.vote("second")
    assert paper.shown == ["0:", "b一", "1:", "a一", "0:", "b二", "1:", "a二"]
    assert [engine.seen[1] for engine in loader.engines] == [
        [
            Message("system", "短く"),
            Message("user", "問一"),
            Message("assistant", f"{name}一"),
            Message("user", "問二"),
        ]
        for name in "ba"
    ]
    assert vote.models == ("b", "a")
    assert [turn.answers for turn in vote.turns] == [("b一", "a一"), ("b二", "a二")]
    assert vote.turns[0].finish_reasons == ("stop", "stop")
    assert [source["reference"] for source in vote.provenance["models"]] == ["b", "a"]
    assert vote.provenance["sampling"]["seed"] is not None
    assert vote.provenance["options"] == {"system": "短く"}
    file = VoteFile(tmp_path / "votes.jsonl")
    file.add([vote])
    (kept,) = file.read().votes
    assert kept.turns == vote.turns
    assert kept.category == "雑談"


def test_models_that_do_not_fit_take_turns_and_load_as_seldom_as_possible(memory: DigestMemory) -> None:
    loader, paper = Loader(), Paper()
    with Roster(loader, memory, together=False) as roster:
        comparison = compared(roster)
        comparison.ask("問一", paper)
        comparison.ask("問二", paper)
        comparison.vote("tie")
    # Shown in the drawn order, whoever answered first; to vote loads nothing.
    assert [text for text in paper.shown if not text.endswith(":")] == ["b一", "a一", "b一", "a二"]
    assert loader.events == ["+b", "-b", "+a", "-a", "+b", "-b"]


def test_a_question_that_fails_is_no_part_of_the_comparison(memory: DigestMemory) -> None:
    loader = Loader(["よし"], ["途中", EngineError("broken", hint="tanuki doctor")])
    with Roster(loader, memory, together=True) as roster:
        comparison = compared(roster)
        comparison.ask("一", Paper())
        with pytest.raises(EngineError, match="broken"):
            comparison.ask("二", Paper())
        assert [turn.question for turn in comparison.vote("first").turns] == ["一"]

"""Which matchups are drawn, in one run and in the next; and who is kept in memory meanwhile."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel, RemoteModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.answers import AnswerFile, answer_key, seeded
from tanuki_cli.evaluation.arena.contestants import Contestant, Roster, find_contestants, fit_together
from tanuki_cli.evaluation.arena.preparing import prepare_answers
from tanuki_cli.evaluation.arena.questions import Question
from tanuki_cli.evaluation.arena.schedule import ANSWERS, Matchup, Schedule
from tanuki_cli.evaluation.arena.votes import Turn, Verdict, Vote
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import ScriptedEngine

QUESTIONS = [Question(turns=(f"問{number}",)) for number in range(4)]
SAMPLING = SamplingOptions()


def contestants(count: int) -> list[Contestant]:
    target = RemoteModel(name="server", base_url="http://127.0.0.1:1/v1")
    return [Contestant(name=f"model{n}", target=target, identity=f"digest{n}") for n in range(count)]


def schedule(
    models: list[Contestant], votes: list[Vote], *, seed: int = 0, system: str | None = None
) -> Schedule:
    return Schedule(models, QUESTIONS, votes, system=system, sampling=SAMPLING, rng=random.Random(seed))


def cast(matchup: Matchup, verdict: Verdict = "first") -> Vote:
    first, second = matchup.models
    return Vote(
        time=None,
        models=(first.name, second.name),
        verdict=verdict,
        turns=(Turn(question="問", answers=("", "")),),
        provenance={"options": {ANSWERS: list(matchup.keys)}},
    )


def play(plan: Schedule, *, at_most: int = 100) -> Iterator[tuple[Matchup, Vote]]:
    while at_most and (matchup := plan.next_prepared()):
        vote = cast(matchup)
        plan.record(vote)
        yield matchup, vote
        at_most -= 1


@pytest.mark.parametrize("models", [2, 3])
def test_every_question_is_compared_once_by_every_two_over_several_runs(models: int) -> None:
    votes: list[Vote] = []
    seen: Counter[tuple[object, frozenset[str]]] = Counter()
    pairs = models * (models - 1) // 2
    assert schedule(contestants(models), []).remaining == 4 * pairs
    for run in range(50):
        for matchup, vote in play(schedule(contestants(models), votes, seed=run), at_most=1 + run % 2):
            votes.append(vote)
            seen[(matchup.question, frozenset(one.name for one in matchup.models))] += 1
    assert len(seen) == 4 * pairs
    assert set(seen.values()) == {1}
    assert schedule(contestants(models), votes).remaining == 0


def test_all_questions_have_a_vote_before_one_has_two() -> None:
    drawn = [matchup.question for matchup, _vote in play(schedule(contestants(3), []))]
    assert set(drawn[:4]) == set(drawn[4:8]) == set(QUESTIONS)


def test_both_positions_are_drawn() -> None:
    firsts = Counter(
        matchup.models[0].name
        for seed in range(50)
        for matchup, _vote in play(schedule(contestants(2), [], seed=seed))
    )
    assert 70 < firsts["model0"] < 130


def test_a_skipped_question_does_not_come_again_and_moves_no_rating() -> None:
    plan = schedule(contestants(2), [])
    matchup = plan.next_prepared()
    assert matchup is not None
    later = schedule(contestants(2), [cast(matchup, "skip")])
    assert later.remaining == 3
    assert matchup.question not in [one.question for one, _vote in play(later)]


def test_other_answers_are_other_comparisons() -> None:
    """A changed file, system prompt or option makes new answers, and those were not voted on."""
    votes = [vote for _matchup, vote in play(schedule(contestants(2), []))]
    assert schedule(contestants(2), votes, system="短く答えて").remaining == 4
    changed = [contestants(2)[0], replace(contestants(2)[1], identity="another file")]
    assert schedule(changed, votes).remaining == 4
    keys = {
        answer_key("digest", QUESTIONS[0], None, SAMPLING),
        answer_key("digest", QUESTIONS[1], None, SAMPLING),
    }
    keys |= {answer_key("digest", QUESTIONS[0], None, replace(SAMPLING, seed=1))}
    assert len(keys) == 3


def test_votes_of_imports_are_no_votes_here() -> None:
    votes = [replace(vote, source="LLMChat") for _matchup, vote in play(schedule(contestants(2), []))]
    assert schedule(contestants(2), votes).remaining == 4


def test_seeds_come_from_the_question_unless_one_is_given() -> None:
    assert seeded(SAMPLING, QUESTIONS[0]) == seeded(SAMPLING, QUESTIONS[0])
    assert seeded(SAMPLING, QUESTIONS[0]) != seeded(SAMPLING, QUESTIONS[1])
    assert seeded(replace(SAMPLING, seed=7), QUESTIONS[0]).seed == 7


def machine(*, ram: int, available: int) -> Machine:
    return Machine(ram_bytes=ram, available_ram_bytes=available, physical_cores=2)


def local(name: str, size: int) -> Contestant:
    target = LocalModel(name=name, format="gguf", path=Path(f"{name}.gguf"))
    return Contestant(name=name, target=target, identity=name, file_bytes=size)


def test_models_are_loaded_together_only_where_they_fit() -> None:
    two = [local("a", 4 << 30), local("b", 4 << 30)]
    assert not fit_together(two, machine(ram=16 << 30, available=9 << 30))
    assert fit_together(two, machine(ram=16 << 30, available=12 << 30))
    assert fit_together([two[0], *contestants(1)], machine(ram=4 << 30, available=1 << 30))


class Loader:
    """Loads engines that play a script, and notes who is in memory."""

    def __init__(self, *names: str) -> None:
        self.loaded: list[str] = []
        self.most = 0
        self.count = 0
        self.engines: dict[str, list[ScriptedEngine]] = {name: [] for name in names}

    def __call__(self, name: str) -> LoadedModel:
        engine = ScriptedEngine(*[[f"{name}の答え"]] * 20)
        self.engines[name].append(engine)
        self.loaded.append(name)
        self.most = max(self.most, len(self.loaded))
        self.count += 1
        engine.close = lambda: self.loaded.remove(name)  # type: ignore[method-assign]
        return LoadedModel(engine=engine, reference=name, target=practice_model(), load_s=0.0)


@pytest.mark.parametrize("together", [True, False])
def test_answers_are_prepared_model_by_model_and_kept(tmp_path: Path, together: bool) -> None:
    models = [local("a", 1), local("b", 1)]
    file = AnswerFile(tmp_path / "answers.jsonl")
    told: list[tuple[int, int]] = []

    def prepare(loader: Loader) -> dict[str, str]:
        plan = schedule(models, [])
        with Roster(loader, DigestMemory(tmp_path / "digests.json"), together=together) as roster:
            found = prepare_answers(
                models,
                plan,
                roster,
                file,
                system=None,
                sampling=SAMPLING,
                progress=lambda done, total: told.append((done, total)),
                too_long=lambda question, error: pytest.fail(str(error)),
            )
        return {key: answer.replies[0].text for key, answer in found.items()}

    loader = Loader("a", "b")
    first = prepare(loader)
    assert sorted(first.values()) == ["aの答え"] * 4 + ["bの答え"] * 4
    assert told[0] == (0, 8)
    assert told[-1] == (8, 8)
    assert told == sorted(told)
    assert loader.count == 2
    assert loader.most == (2 if together else 1)
    assert loader.loaded == []
    # A line that was cut off is made again, and nothing else.
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    again = Loader("a", "b")
    assert prepare(again) == first
    assert [len(engine.seen) for engine in again.engines["b"]] == [1]
    assert again.engines["a"] == []


def test_two_models_are_the_least(tmp_path: Path) -> None:
    memory = DigestMemory(tmp_path / "digests.json")
    for names in ([], ["mame"], ["mame", "mame"]):
        with pytest.raises(InputError, match="at least two"):
            find_contestants(names, lambda name: practice_model(), memory)
    one, other = find_contestants(["mame", "./copy.gguf"], lambda name: practice_model(), memory)
    assert one.identity == other.identity
    assert [one.name, other.name] == ["mame", "./copy.gguf"]

"""Several jobs on one engine, one after another: nothing is mixed, lost, or stopped for another."""

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Job, Progress
from tanuki_cli.engines.base import Answerer, GenerationCancelled
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import ScriptedEngine

GREEDY = SamplingOptions(temperature=0.0, seed=0)


def job(text: str = "こんにちは") -> Job:
    return Job(messages=[Message("user", text)], options=GREEDY)


def run(answerer: Answerer) -> list[Progress]:
    """All that comes until there is nothing to do any more."""
    every: list[Progress] = []
    while new := answerer.advance():
        every += new
    return every


def text_of(job: Job, every: list[Progress]) -> str:
    return "".join(progress.chunk.text for progress in every if progress.job is job and progress.chunk)


def test_jobs_are_answered_in_order() -> None:
    answerer = OneByOne(ScriptedEngine(["a", "b"], ["c"]))
    first, second = job(), job()
    answerer.add(first)
    answerer.add(second)
    assert answerer.waiting == 2
    every = run(answerer)
    assert (text_of(first, every), text_of(second, every)) == ("ab", "c")
    assert [progress.job for progress in every if progress.is_last] == [first, second]
    assert answerer.advance() == []


def test_the_error_of_one_job_is_its_own() -> None:
    answerer = OneByOne(ScriptedEngine(["a", EngineError("broken")], ["c"]))
    first, second = job(), job()
    answerer.add(first)
    answerer.add(second)
    every = run(answerer)
    errors = [progress for progress in every if progress.error]
    assert [(progress.job, str(progress.error)) for progress in errors] == [(first, "broken")]
    assert text_of(second, every) == "c"


@pytest.mark.parametrize("when", ["waiting", "running", "ended"])
def test_a_dropped_job_takes_no_other_with_it(when: str) -> None:
    engine = ScriptedEngine(["a", lambda: answerer.drop(first) if when == "running" else None, "b"], ["c"])
    if when == "waiting":
        engine = ScriptedEngine(["c"])
    answerer = OneByOne(engine)
    first, second = job(), job()
    answerer.add(first)
    answerer.add(second)
    if when == "waiting":
        answerer.drop(first)
    every: list[Progress] = []
    while new := answerer.advance():
        every += new
        if when == "ended" and new[-1].is_last and new[-1].job is first:
            answerer.drop(first)
    assert text_of(first, every) == {"waiting": "", "running": "a", "ended": "ab"}[when]
    assert text_of(second, every) == "c"
    assert [progress.job for progress in every if progress.is_last] == [first, second][when != "ended" :]


def test_cancel_ends_everything_and_leaves_the_engine_usable() -> None:
    answerer = OneByOne(ScriptedEngine(["a", lambda: answerer.cancel(), "b"], ["d"]))
    answerer.add(job())
    answerer.add(job())
    with pytest.raises(GenerationCancelled):
        run(answerer)
    assert answerer.advance() == []
    later = job()
    answerer.add(later)
    assert text_of(later, run(answerer)) == "d"

"""One question to an engine: the whole answer, or a Ctrl-C that leaves nothing half."""

import os
import signal

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.errors import InterruptedByUser, RemoteError
from tanuki_cli.evaluation.asking import complete
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import ScriptedEngine

QUESTION = [Message("user", "狸とは?")]


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_answer_and_its_counts() -> None:
    engine = ScriptedEngine(["たぬ", "き"])
    seen: list[int] = []
    completion = complete(engine, QUESTION, SamplingOptions(), report=seen.append)
    assert (completion.text, completion.finish_reason, completion.dropped) == ("たぬき", "stop", 0)
    assert completion.usage.completion_tokens == sum(seen) == 2


@pytest.mark.parametrize("script", [[press_ctrl_c, "たぬき"], ["たぬき", press_ctrl_c, "き"]])
def test_ctrl_c_stops_the_model(script: list[object]) -> None:
    engine = ScriptedEngine(script, ["次"])  # type: ignore[arg-type]
    with pytest.raises(InterruptedByUser):
        complete(engine, QUESTION, SamplingOptions())
    assert complete(engine, QUESTION, SamplingOptions()).text == "次"
    with pytest.raises(KeyboardInterrupt):  # Ctrl-C is again what it was
        press_ctrl_c()


def test_errors_pass() -> None:
    with pytest.raises(RemoteError):
        complete(ScriptedEngine(["た", RemoteError("gone")]), QUESTION, SamplingOptions())

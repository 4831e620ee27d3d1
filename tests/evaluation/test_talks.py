"""Many conversations at once are what each is alone."""

import os
import signal
from collections.abc import Iterator

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import EngineError, InputError, InterruptedByUser
from tanuki_cli.evaluation.talks import Asked, Talk, hold_talks
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import ScriptedEngine

OPTIONS = SamplingOptions()


def talk(name: str, turns: int, heard: list[str]) -> Talk:
    messages = []
    for turn in range(turns):
        messages.append(Message("user", f"{name}{turn}"))
        try:
            completion = yield Asked(messages=[*messages], options=OPTIONS)
        except InputError as error:
            heard.append(f"{name}{turn}: {error}")
            return
        messages.append(Message("assistant", completion.text))
        heard.append(f"{name}{turn}: {completion.text}")


def talks(*given: Talk) -> Iterator[Talk]:
    yield from given


def test_every_talk_hears_its_own_answers() -> None:
    engine = ScriptedEngine(["a"], ["b"], ["c"], ["d"], ["e"])
    heard: list[str] = []
    counted: list[int] = []
    given = talks(talk("x", 2, heard), talk("n", 0, heard), talk("y", 1, heard), talk("z", 2, heard))
    hold_talks(OneByOne(engine), given, report=counted.append)
    assert sum(counted) == 5
    assert sorted(line.partition(":")[0] for line in heard) == ["x0", "x1", "y0", "z0", "z1"]
    assert [len(messages) for messages in engine.seen if messages[0].content == "x0"] == [1, 3]
    texts = dict(line.split(": ") for line in heard)
    for messages in engine.seen:
        assert [message.content for message in messages[1::2]] == [
            texts[message.content] for message in messages[:-1:2]
        ]


def test_the_error_of_an_answer_is_its_talk_s() -> None:
    heard: list[str] = []
    engine = ScriptedEngine([InputError("too long")], ["b"])
    hold_talks(OneByOne(engine), talks(talk("x", 2, heard), talk("y", 1, heard)))
    assert heard == ["x0: too long", "y0: b"]
    with pytest.raises(EngineError):
        hold_talks(OneByOne(ScriptedEngine([EngineError("broken")])), talks(talk("x", 1, heard)))


def test_ctrl_c_ends_them_all() -> None:
    heard: list[str] = []
    engine = ScriptedEngine(["a"], ["b", lambda: os.kill(os.getpid(), signal.SIGINT), "c"], ["d"])
    with pytest.raises(InterruptedByUser):
        hold_talks(OneByOne(engine), talks(talk("x", 1, heard), talk("y", 2, heard), talk("z", 1, heard)))
    assert heard == ["x0: a"]

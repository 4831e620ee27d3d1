"""Several answers from a server at once: nothing mixed, lost, or stopped for another."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Job, Progress
from tanuki_cli.engines.base import Answerer, GenerationCancelled
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.errors import RemoteError
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.sampling import SamplingOptions
from tests.support.chat_server import ChatServer, Cut, Hang, Script, Status, chat, chat_answer

GREEDY = SamplingOptions(temperature=0.0, seed=0)
REFUSED = Status(400, b'{"error": "no"}')
BUSY = Status(503, b'{"error": "busy"}')


class EchoServer(ChatServer):
    """Answers each question with itself, or with the script that its text has."""

    def __init__(self, *, busy: Sequence[Status] = (), **scripts: Script) -> None:
        super().__init__(models=["m"])
        self.by_text = scripts
        self.busy = list(busy)
        self.scripts = _Echo(self)  # type: ignore[assignment]


class _Echo:
    """What :attr:`ChatServer.scripts` is for such a server: looks at the newest request."""

    def __init__(self, server: EchoServer) -> None:
        self._server = server

    def pop(self, _index: int) -> Script:
        messages = self._server.requests[-1].body["messages"]
        assert isinstance(messages, list)
        text = messages[-1]["content"]
        if text == "busy":
            return self._server.busy.pop(0)
        return self._server.by_text.get(text, chat_answer(text, "!"))


def job(text: str) -> Job:
    return Job(messages=[Message("user", text)], options=GREEDY)


def opened(server: ChatServer, places: int | None = None) -> Answerer:
    return RemoteEngine(RemoteModel(name="t", base_url=server.url)).answerer(places)


@pytest.fixture
def no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "tanuki-connection"]


pytestmark = pytest.mark.usefixtures("no_thread_stays")


def run(answerer: Answerer) -> list[Progress]:
    every: list[Progress] = []
    while new := answerer.advance():
        every += new
    return every


def text_of(one: Job, every: list[Progress]) -> str:
    return "".join(progress.chunk.text for progress in every if progress.job is one and progress.chunk)


def test_a_hundred_answers_are_each_their_own() -> None:
    with EchoServer() as server:
        answerer = opened(server, 5)
        assert answerer.places == 5
        jobs = [job(f"{number}") for number in range(100)]
        for one in jobs:
            answerer.add(one)
        every = run(answerer)
        assert [text_of(one, every) for one in jobs] == [f"{number}!" for number in range(100)]
        assert sorted(map(id, (one.job for one in every if one.is_last))) == sorted(map(id, jobs))
        assert (answerer.advance(), answerer.waiting) == ([], 0)
        answerer.close()
        answerer.close()


def test_answers_are_asked_for_at_once() -> None:
    with EchoServer(slow=[chat("a"), Hang()]) as server:
        answerer = opened(server, 2)
        slow, quick = job("slow"), job("quick")
        answerer.add(slow)
        answerer.add(quick)
        every: list[Progress] = []
        while not any(one.is_last for one in every):  # the quick one ends while the slow one hangs
            every += answerer.advance()
        assert text_of(quick, every) == "quick!"
        answerer.drop(slow)
        assert answerer.advance() == []
        assert server.disconnected.wait(60)
        answerer.close()


def test_a_failure_is_one_job_s_own_and_busy_servers_are_asked_again() -> None:
    with EchoServer(
        bad=REFUSED, busy=[BUSY, BUSY, Status(200, _whole("busy!"))], cut=[chat("a"), Cut()]
    ) as server:
        answerer = opened(server, 3)
        jobs = {text: job(text) for text in ("bad", "busy", "cut", "fine")}
        for one in jobs.values():
            answerer.add(one)
        every = run(answerer)
        errors = {id(one.job): one.error for one in every if one.error}
        assert set(errors) == {id(jobs["bad"]), id(jobs["cut"])}
        assert all(isinstance(error, RemoteError) for error in errors.values())
        assert text_of(jobs["busy"], every) == "busy!"
        assert text_of(jobs["fine"], every) == "fine!"
        answerer.close()


def _whole(text: str) -> bytes:
    return b'{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}]}' % text.encode()


def test_a_dropped_job_takes_no_other_with_it() -> None:
    with EchoServer(slow=[chat("a"), Hang()]) as server:
        answerer = opened(server, 2)
        slow, waiting, fine = job("slow"), job("waiting"), job("fine")
        for one in (slow, fine, waiting):
            answerer.add(one)
        answerer.drop(waiting)
        every = answerer.advance()
        while "a" not in text_of(slow, every):
            every += answerer.advance()
        answerer.drop(slow)
        every += run(answerer)
        assert text_of(fine, every) == "fine!"
        assert [one.job for one in every if one.is_last] == [fine]
        again = job("again")
        answerer.add(again)
        assert text_of(again, run(answerer)) == "again!"
        answerer.close()


def interrupt_after(answerer: Answerer, texts: int) -> None:
    """Press Ctrl-C when so many texts have come; a thread that waits for nothing may hear of it."""
    seen = 0
    while True:
        seen += sum(one.chunk is not None and bool(one.chunk.text) for one in answerer.advance())
        if seen == texts:
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            seen = 0


def test_ctrl_c_ends_all_at_once_and_leaves_the_answerer_usable() -> None:
    with EchoServer(slow=[chat("a"), Hang()]) as server:
        answerer = opened(server, 3)
        for _time in range(5):
            answerer.add(job("slow"))
        with on_interrupt(answerer.cancel), pytest.raises(GenerationCancelled):
            interrupt_after(answerer, 3)
        assert answerer.advance() == []
        later = job("later")
        answerer.add(later)
        assert text_of(later, run(answerer)) == "later!"
        answerer.close()


def test_closing_ends_what_runs() -> None:
    with EchoServer(slow=[chat("a"), Hang()]) as server:
        answerer = opened(server, 2)
        answerer.add(job("slow"))
        while not any(one.chunk and one.chunk.text for one in answerer.advance()):
            pass
        started = time.monotonic()
        answerer.close()
        assert server.disconnected.wait(60)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("kind", "places"), [("vllm", 16), ("openai", 8), ("ollama", 2), ("llama-server", 1)]
)
def test_as_many_as_the_server_likes(kind: str, places: int) -> None:
    with ChatServer(kind=kind, models=["m"]) as server:  # type: ignore[arg-type]
        answerer = opened(server)
        assert answerer.places == places
        answerer.close()


def test_as_many_as_llama_server_has_slots() -> None:
    props = Status(200, b'{"total_slots": 4, "default_generation_settings": {"n_ctx": 4096}}')
    with ChatServer(kind="llama-server", models=["m"], pages={"/props": props}) as server:
        answerer = opened(server)
        assert answerer.places == 4
        answerer.close()

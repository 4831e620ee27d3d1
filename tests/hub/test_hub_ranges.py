"""A large file over several connections: right after every fault, and resumable after a kill."""

import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tanuki_cli.hub import ranges
from tanuki_cli.hub.ranges import PIECE
from tests.conftest import until
from tests.support.hub_driver import Outcome, Puller
from tests.support.hub_server import Fault, Hub, digest_of, running_hub

NAME = "hf:someone/large"
LARGE = random.Random(1).randbytes(5 * PIECE + 12_345)
DIGEST = digest_of(LARGE)

pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        # So slow that more than one connection pays; faults of a test come before this one.
        hub.faults.append(Fault(pattern=DIGEST, bytes_per_s=20_000_000))
        hub.add("someone/large", {"large.gguf": LARGE, "tokenizer.json": b"{}"})
        yield hub


@pytest.fixture
def user(hub: Hub, tmp_path: Path) -> Puller:
    return Puller(tmp_path, hub.url)


def is_right(result: Outcome) -> bool:
    assert result.exit == 0, result.message
    assert result.path is not None
    return result.path.read_bytes() == LARGE and result.last[2] == result.last[3]


def test_every_byte_is_asked_for_once(hub: Hub, user: Puller) -> None:
    result = user.pull(NAME)
    assert is_right(result)
    assert result.received == len(LARGE) + len(b"{}")
    asked = sorted(tuple(map(int, re.findall(r"\d+", str(text)))) for text in hub.ranges(DIGEST))
    assert [start for start, _end in asked] == [0, *(end + 1 for _start, end in asked[:-1])]
    assert asked[-1][1] == len(LARGE) - 1
    assert all(end - start < PIECE for start, end in asked)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(pattern=DIGEST, times=4, cut_after=3_000_000)], id="cut"),
        pytest.param([Fault(pattern=DIGEST, times=3, cut_after=0)], id="cut before anything"),
        pytest.param([Fault(pattern="large.gguf", skip=1, times=4, status=503)], id="busy"),
        pytest.param([Fault(pattern=DIGEST, ignore_range=True)], id="no ranges"),
        pytest.param(
            [Fault(pattern=DIGEST, skip=1, times=3, ignore_range=True)],
            id="no ranges behind some proxies",
        ),
        pytest.param([Fault(pattern=DIGEST, times=1, corrupt=True)], id="damaged"),
    ],
)
def test_faults_of_some_connections_do_not_show_in_the_file(
    hub: Hub, user: Puller, faults: list[Fault]
) -> None:
    hub.faults[:0] = faults
    result = user.pull(NAME)
    if any(fault.corrupt for fault in faults):
        assert (result.exit, "damaged" in result.message) == (5, True)
        result = user.pull(NAME)
    assert is_right(result)


def test_one_that_allows_two_connections_gets_two(hub: Hub, user: Puller) -> None:
    hub.max_connections = 2
    assert is_right(user.pull(NAME))


def test_what_lasts_is_said(hub: Hub, user: Puller) -> None:
    hub.faults[:] = [Fault(pattern=DIGEST, cut_after=0)]
    result = user.pull(NAME)
    assert (result.exit, "tanuki pull" in result.hint) == (5, True), result


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_ends_in_the_middle_leaves_the_beginning_of_the_file(
    hub: Hub, user: Puller, number: signal.Signals
) -> None:
    # Slow enough that the signal comes in the middle, with later pieces here before earlier ones.
    slow = Fault(pattern=DIGEST, bytes_per_s=8_000_000)
    hub.faults[:] = [slow]
    process = user.start(NAME)
    partial = user.cache.repository("someone/large") / "blobs" / f"{DIGEST}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size > 1_000_000)
    process.send_signal(number)
    process.communicate(timeout=60)
    received = partial.read_bytes()
    assert 0 < len(received) < len(LARGE)
    assert received == LARGE[: len(received)]
    hub.faults.clear()
    slow.release.set()
    result = user.pull(NAME)
    assert is_right(result)
    assert result.received == len(LARGE) - len(received)


def test_kills_at_any_moment_leave_the_file_right(hub: Hub, user: Puller) -> None:
    partial = user.cache.repository("someone/large") / "blobs" / f"{DIGEST}.incomplete"

    def received() -> int:
        return partial.stat().st_size if partial.exists() else 0

    chance = random.Random(2)
    for _kill in range(5):
        enough = received() + chance.randrange(len(LARGE) // 8)
        process = user.start(NAME)
        while received() < enough and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=60)
    before = received()
    result = user.pull(NAME)
    assert is_right(result)
    assert result.received <= len(LARGE) - before + len(b"{}")


def test_no_more_connections_than_are_meant(hub: Hub, user: Puller) -> None:
    assert is_right(user.pull(NAME))
    assert 2 <= hub.most_connections <= ranges.CONNECTIONS


def test_more_connections_only_where_one_is_slow() -> None:
    megabyte = 1_000_000
    counts = [ranges.worthwhile_connections(speed * megabyte) for speed in (0, 0.1, 5, 20, 60, 100, 2000)]
    assert counts == [8, 8, 8, 5, 2, 1, 1]

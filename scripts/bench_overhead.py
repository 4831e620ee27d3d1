"""What Python costs per token, from llama.cpp's C functions to the saved answer.

    python -m scripts.bench_overhead [--rounds 5]

The practice model answers in a real chat session with a history file, with and without speculation. The
time inside llama.cpp (decode, sampling) is taken off; what remains is ours: batches, drafts, detokenising,
stop rules, statistics, and the saving of the unfinished answer. It is the CPU time of the thread, so that
other work on the machine is not counted, nor is waiting for the disk. Reading that clock takes microseconds
itself, which are measured and taken off, too. Drawing is measured by bench_chat.py.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tanuki_cli.catalog.practice import practice_model, suggestions
from tanuki_cli.conversation import Conversation
from tanuki_cli.engines.llama_cpp.bindings import native
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.history import HistoryStore
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.session import ChatSession
from tanuki_cli.settings.values import Settings

NATIVE: Final = ("llama_decode", "llama_sampler_sample")
_TRIES: Final = 20_000


class NativeClock:
    """Adds up the seconds spent in llama.cpp. ``seconds`` has them, and what it took to measure so far."""

    def __init__(self) -> None:
        self.seconds = self._per_call = 0.0
        call = self.timed(lambda: None)
        started = time.thread_time()
        for _try in range(_TRIES):
            call()
        self._per_call = (time.thread_time() - started - self.seconds) / _TRIES
        started = time.thread_time()
        for _try in range(_TRIES):
            self.now()
        self._per_read = (time.thread_time() - started) / _TRIES
        self.seconds = 0.0

    def now(self) -> tuple[float, float]:
        """The time, and :attr:`seconds` by then."""
        return time.thread_time(), self.seconds

    def read(self) -> tuple[float, float]:
        """The same, and count it as measuring."""
        self.seconds += self._per_read
        return self.now()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, on the clock."""

        def run(*arguments: Any) -> Any:
            started = time.thread_time()
            result = function(*arguments)
            self.seconds += time.thread_time() - started + self._per_call
            return result

        return run


def overhead_us(session: ChatSession, question: str, clock: NativeClock) -> tuple[float, int]:
    """Microseconds outside of llama.cpp between the first and the last text of an answer, and tokens."""
    first: tuple[float, float] | None = None
    last, tokens = (0.0, 0.0), 0
    for chunk in session.send(question):
        if not chunk.text:
            continue
        last = clock.read()
        if first is None:
            first = last
        else:
            tokens += chunk.token_count
    passed, native = (end - begin for end, begin in zip(last, first or last, strict=True))
    return (passed - native) * 1e6, tokens


def measure(*, speculation: bool, rounds: int) -> None:
    """One row: the median over the rounds."""
    clock, costs = NativeClock(), []
    with ExitStack() as stack:
        for name in NATIVE:
            stack.enter_context(patch.object(native, name, clock.timed(getattr(native, name))))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = Settings(speculation=speculation)
        engine = stack.enter_context(closing(open_engine(practice_model(), settings)))
        store = stack.enter_context(closing(HistoryStore(Path(folder) / "history.sqlite3")))
        count = 0
        for _round in range(rounds):
            total, tokens = 0.0, 0
            for question in suggestions("ja"):
                session = ChatSession(
                    engine, Conversation(), SamplingOptions(seed=1), reference="mame", store=store
                )
                cost, length = overhead_us(session, question, clock)
                total, tokens = total + cost, tokens + length
            costs.append(total / tokens)
            count += tokens
    name = "with speculation" if speculation else "without"
    print(f"{name:20}{statistics.median(costs):8.1f} µs/token   ({count} tokens)")


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for speculation in (False, True):
        measure(speculation=speculation, rounds=options.rounds)


if __name__ == "__main__":
    main()

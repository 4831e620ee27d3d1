"""Measure the history's search on a large file, and show the query plan that explains it.

    python -m scripts.bench_history [--messages 100000] [--directory DIR]

The messages are made of common and rare Japanese words in natural proportions (Zipf), 20 to 400
characters long. The time is one ``HistoryStore.search`` with 20 hits, highlights and all, after
the file was opened.
"""

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from tanuki_cli.conversation import Conversation, Generation, Message
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.search import search_query, search_terms

COMMON_WORDS = """
の は に を た が で と し て も な い か ら です。 ます。 こと する ある いる から まで など ため これ それ
とても 、 。 日本 東京 大阪 京都 今日 明日 天気 時間 世界 言葉 料理 電車 旅行 仕事 学校 コンピューター
プログラム データ ガソリン エネルギー Python def return print( ) = 1 2 3 ``` 例えば、 しかし、 また、 つまり、
について において によって と思います。 してください。 でしょうか？
"""
RARE_WORDS = 20_000
QUERIES = (
    ("one character, in most messages", "の"),
    ("one character, rare", "鸚"),
    ("one character, nowhere", "龘"),
    ("two characters, common", "日本"),
    ("two characters, nowhere together", "の龘"),
    ("three characters, common", "ます。"),
    ("a common word", "コンピューター"),
    ("half-width kana", "ｶﾞｿﾘﾝ"),
    ("a long phrase", "について、例えば、日本"),
    ("common parts, nowhere together", "ます。ます。でしょうか？して"),
    ("two words, one short", "ガソリン 鸚"),
    ("two common characters", "の は"),
)


def word_source(random_: random.Random) -> Callable[[int], list[str]]:
    """A function that draws that many words, the n-th word 1/n as often as the first."""
    rare = ["".join(chr(random_.randrange(0x4E00, 0x9F00)) for _ in range(2)) for _ in range(RARE_WORDS)]
    words = [*COMMON_WORDS.split(), *rare]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return lambda count: random_.choices(words, cum_weights=weights, k=count)


def conversations(count: int) -> Iterator[Conversation]:
    """Conversations of 20 messages."""
    random_ = random.Random(20)
    draw = word_source(random_)
    for _ in range(count):
        conversation = Conversation()
        for turn in range(10):
            conversation.append(Message("user", "".join(draw(random_.randrange(10, 40)))))
            text = "".join(draw(random_.randrange(40, 220))) + ("鸚" if random_.random() < 0.001 else "")
            generation = Generation(model="bench", finish_reason="stop", seed=turn)
            conversation.append(Message("assistant", text), generation=generation)
        yield conversation


def measure(store: HistoryStore, text: str, *, repeat: int) -> tuple[float, float, int]:
    """Median milliseconds on the clock and of this process's CPU time, and the number of hits."""
    clock, cpu = [], []
    for _ in range(repeat):
        started, cpu_started = time.perf_counter(), time.process_time()
        hits = store.search(text, limit=20)
        cpu.append((time.process_time() - cpu_started) * 1000)
        clock.append((time.perf_counter() - started) * 1000)
    return statistics.median(clock), statistics.median(cpu), len(hits)


def print_plan(path: Path, text: str) -> None:
    """How SQLite carries out the search for ``text``."""
    query, parameters = search_query(search_terms(text), limit=20)
    with closing(sqlite3.connect(path)) as connection:
        print(f"\nEXPLAIN QUERY PLAN of the search for {text}:")
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters):
            print(f"  {step}")


def main() -> None:
    """Fill a file, search it, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=21)
    parser.add_argument("--directory", type=Path, help="where the file is made, and removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory) / "history.sqlite3"
        started = time.perf_counter()
        with HistoryStore(path) as store:
            store.add(conversations(options.messages // 20))
        seconds = time.perf_counter() - started
        print(f"{options.messages} messages, {path.stat().st_size / 2**20:.0f} MiB, made in {seconds:.0f} s")
        print(f"SQLite {sqlite3.sqlite_version}, {options.repeat} searches each\n")
        print(f"{'median ms':>10}{'CPU ms':>8}{'hits':>6}  search")
        with HistoryStore(path) as store:
            for name, text in QUERIES:
                clock, cpu, hits = measure(store, text, repeat=options.repeat)
                print(f"{clock:10.1f}{cpu:8.1f}{hits:6}  {text}  ({name})", flush=True)
        for text in ("日本語", "日本"):
            print_plan(path, text)


if __name__ == "__main__":
    main()

"""What the user of ``tanuki chat`` waits for: the first screen, each key, and the drawing of answers.

    python -m scripts.bench_chat [--starts 7] [--keys 100]

The real program with the practice model runs on a pseudo-terminal; times are taken when the model of
the screen shows the result, so that they include what that model itself takes. Keys are typed one by
one, each after the last one is shown. What drawing costs in detail is told by bench_render.py.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.bench_render import CODE, LIST, PROSE, TABLE, TOKENS_PER_SECOND, seconds, tokens_of
from tanuki_cli.terminal.markdown.stream import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look
from tests.support.program import Terminal

CHAT: Final = ("chat", "-m", "mame", "--no-save")
LONG_BUFFER: Final = 10_000
LINE: Final = "とても長い、貼り付けた文章です。"


def first_screen(home: Path) -> float:
    """Seconds from the start of the process until the prompt and its status line are on the screen."""
    started = time.perf_counter()
    with Terminal(home, CHAT) as terminal:
        terminal.wait_for_prompt(0)
        terminal.wait_for("0/")
        return time.perf_counter() - started


def key_times(terminal: Terminal, keys: str) -> list[float]:
    """Seconds for each of ``keys``: from the key until the cursor is behind it."""
    times = []
    for key in keys:
        cursor = terminal.screen.raw.cursor
        before = cursor.y, cursor.x
        started = time.perf_counter()
        terminal.type(key)
        while (cursor.y, cursor.x) == before:
            terminal.pump(1)
        times.append(time.perf_counter() - started)
        while terminal.pump(0.01):  # what follows the key is not the next key's
            pass
    return times


def clear_input(terminal: Terminal) -> None:
    """Ctrl-C, and wait until the input is empty."""
    terminal.interrupt()
    while terminal.screen.window[terminal.screen.raw.cursor.y] != ">":
        terminal.pump(1)


def show(name: str, times: Sequence[float]) -> None:
    """One row, in milliseconds."""
    median, worst = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    print(f"{name:44}{median * 1e3:10.1f}{worst * 1e3:10.1f}")


def measure_keys(home: Path, count: int) -> None:
    """The rows for keys, in an empty input and behind a long text."""
    ascii_keys, kana = ("abcdefghij" * count)[:count], ("あいうえおかきくけこ" * count)[:count]
    with Terminal(home, CHAT) as terminal:
        terminal.wait_for_prompt(0)
        terminal.wait_for("0/")
        show("a key, empty input", key_times(terminal, ascii_keys))
        clear_input(terminal)
        show("a Japanese character", key_times(terminal, kana))
        clear_input(terminal)
        terminal.paste("\n".join([LINE] * (LONG_BUFFER // (len(LINE) + 1))) + "（終）")
        terminal.wait_for("（終）")
        show(f"a key, after {LONG_BUFFER} characters", key_times(terminal, ascii_keys))
        show(f"a Japanese character, after {LONG_BUFFER}", key_times(terminal, kana))


def drawing_us() -> float:
    """Processor time per token of a mixed answer at the rate of ``TOKENS_PER_SECOND``, in µs."""
    tokens = tokens_of(PROSE + LIST * 3 + "\n" + CODE + TABLE, 3000)
    look = Look(theme=THEMES["dark"])
    taken = seconds(
        lambda clock: MarkdownStream(len, look=look, width=lambda: 80, height=lambda: 24, clock=clock),
        tokens,
        TOKENS_PER_SECOND,
    )
    return taken / len(tokens) * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--keys", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        first_screen(home)  # the tour of the very first start, and cold files, are not what is measured
        print(f"{'':44}{'median ms':>10}{'95 % ms':>10}")
        show("first screen after start", [first_screen(home) for _start in range(options.starts)])
        measure_keys(home, options.keys)
    drawing = drawing_us()
    share = drawing * TOKENS_PER_SECOND / 1e6
    print(f"drawing at {TOKENS_PER_SECOND} tokens/s: {drawing:.1f} µs/token, {share:.2%} of a core")


if __name__ == "__main__":
    main()

"""What drawing an answer costs: processor time per token, at 300 tokens/s and at full speed.

    python scripts/bench_render.py [--tokens N]

Time is simulated, processor time is measured: at 300 tokens/s a frame is due every tenth token; at
full speed the whole answer arrives within one frame. Nothing is written to a terminal.
"""

import argparse
import random
import time
from collections.abc import Callable

from tanuki_cli.terminal.answer import PlainStream
from tanuki_cli.terminal.markdown.stream import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look

TOKENS_PER_SECOND = 300
CHARACTERS_PER_TOKEN = 2

PROSE = "信楽焼のたぬきは、**「八相縁起」**を身につけています。笠は災難を避け、`徳利`は人徳を表します。\n\n"
LIST = "1. 笠（かさ）: 思わぬ災いから身を守る\n   - 入れ子の**項目**\n"
CODE = '```python\ndef bakeru(times: int) -> str:\n    """化ける。"""\n    return "どろん"  # 八回\n```\n\n'
TABLE = "| 名前 | 意味 |\n|---|---|\n" + "| 徳利 | 人徳を表し、飲食に困らない |\n" * 30 + "\n"
LONG = "たぬきは化けます。" * 40 + "\n\n"
OPEN = "*" + "閉じられない強調の続く長い段落です。" * 40 + "\n\n"


def tokens_of(text: str, count: int) -> list[str]:
    """``text`` repeated, cut into about ``count`` tokens of a Japanese model's size."""
    rng = random.Random(0)
    size = count * CHARACTERS_PER_TOKEN
    source = (text * (size // len(text) + 1))[:size]
    tokens = []
    while source:
        length = rng.choice((1, 2, 2, 3))
        tokens.append(source[:length])
        source = source[length:]
    return tokens


def seconds(
    make: Callable[[Callable[[], float]], MarkdownStream | PlainStream], tokens: list[str], rate: float
) -> float:
    """Processor seconds that drawing ``tokens`` takes when they come at ``rate`` a second."""
    now = 0.0
    stream = make(lambda: now)
    started = time.process_time()
    for token in tokens:
        now += 1 / rate
        stream.feed(token)
    stream.finish()
    return time.process_time() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3000)
    count = parser.parse_args().tokens
    look = Look(theme=THEMES["dark"])

    def markdown(clock: Callable[[], float]) -> MarkdownStream:
        return MarkdownStream(len, look=look, width=lambda: 80, height=lambda: 24, clock=clock)

    documents = {"mixed": PROSE + LIST * 3 + "\n" + CODE + TABLE, "prose": PROSE, "list": LIST, "code": CODE}
    documents |= {"table": TABLE, "long paragraphs": LONG, "markup left open": OPEN}
    print(f"{'':18}{'at 300 tokens/s':>30}{'at full speed':>18}{'plain':>12}")
    print(f"{'':18}{'µs/token':>15}{'of a core':>15}{'µs/token':>18}{'µs/token':>12}")
    for name, text in documents.items():
        tokens = tokens_of(text, count)
        paced = seconds(markdown, tokens, TOKENS_PER_SECOND) / len(tokens)
        burst = seconds(markdown, tokens, 1e9) / len(tokens)
        plain = seconds(lambda _: PlainStream(len), tokens, 1e9) / len(tokens)
        share = paced * TOKENS_PER_SECOND
        print(f"{name:18}{paced * 1e6:15.1f}{share:15.2%}{burst * 1e6:18.1f}{plain * 1e6:12.2f}")


if __name__ == "__main__":
    main()

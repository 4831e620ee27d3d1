"""The streamed answer on a screen: nothing lost, nothing twice, the same however it arrives."""

import random
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.terminal.markdown.stream import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look
from tanuki_cli.text.width import cell_width
from tests.support.screen import Screen

LOOK = Look(theme=THEMES["dark"])

JAPANESE = """\
# 信楽焼の**たぬき**

信楽焼のたぬきは、**「八相縁起」**といって、八つの縁起を身につけています。*笠*は災難を避け、`徳利`は人徳を表します。
詳しくは[信楽町の案内](https://example.jp/tanuki)をご覧ください。

1. 笠（かさ）: 思わぬ災いから身を守る
2. 目: 周囲に気を配る
   - 大きな目は「何事も見逃さない」という意味です
   - もう一つの説もあります

     項目の中の段落です。
1. 徳利

> たぬきは**化ける**。
> 狐は七化け、狸は八化け。
>
> - 引用の中の項目

```python
def bakeru(times: int) -> str:
    \"\"\"葉っぱを頭にのせて
    化けます。\"\"\"
    return "どろん" * times  # 八回

```

| 名前 | 意味 | 数 |
|:---|:---:|---:|
| 笠 | 災難を避ける | 1 |
| 徳利 | 人徳<br>飲食に困らない | 20 |

---
おしまい ~~です~~。
"""
ENGLISH = """\
## Heading with `code`

The quick brown fox jumps over the lazy dog, and **the dog does not mind it at all**, as *dogs* do.
A second line with snake_case_names, 2*3*4, x**2 and a [link](https://example.com/a_b?c=d&e=f).
Hard break here\\
and <em>html</em> &amp; entities &copy; end.

* item one
* item two
  continues here

      indented code
* [ ] task

1) one
2) two

   ```sh
   for f in *.txt; do echo "$f"; done
   ```

Unclosed **bold and `code and [link](http://
"""
DOCUMENTS = (JAPANESE, ENGLISH, "- a\n- b\n\n\n\nc\n", "|a|b\n|-|-\n|1|2\nafter", "```\nopen fence\n", "")
SIZES = ((80, 24), (40, 15), (20, 10))


def counter() -> Callable[[], float]:
    """A clock by which every frame is due."""
    frames = iter(range(1 << 30))
    return lambda: float(next(frames))


def show(
    text: str, columns: int = 80, lines: int = 24, *, cut: Callable[[int], int] = lambda left: left
) -> Screen:
    """The screen after ``text`` came in pieces whose sizes ``cut`` chooses, a frame for every piece."""
    screen = Screen(columns, lines)
    stream = MarkdownStream(
        screen.feed, look=LOOK, width=lambda: screen.columns, height=lambda: screen.lines, clock=counter()
    )
    while text:
        size = cut(len(text))
        stream.feed(text[:size])
        text = text[size:]
    stream.finish()
    return screen


markdown_text = st.lists(
    st.sampled_from(
        (
            *"あいうっー、。「」（）*_~`[]()<>#-+|:!&\\1.ab \n\n\n",
            "  ",
            "    ",
            "**",
            "***",
            "$",
            "$$",
            "\\(",
            "\\)",
            "\\[",
            "\\]",
            "==",
            "~~",
            "```",
            "```py\n",
            "\n\n",
            "\n- ",
            "\n1. ",
            "\n> ",
            "\n|a|b|\n|-|-|\n",
            "](",
            "http://x.y/z",
            "&amp;",
            "&#x202e;",
            "  \n",
            "漢字かな交じり文",
            "word ",
            "👩‍👩‍👧",
            "か\u3099",
            "\u0301",
            "\x1b[2J",
        )
    ),
    max_size=60,
).map("".join)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", DOCUMENTS, ids=lambda text: text[:8])
def test_one_character_at_a_time_ends_like_all_at_once(text: str, size: tuple[int, int]) -> None:
    assert show(text, *size, cut=lambda _: 1).display == show(text, *size).display


@settings(max_examples=60)
@given(markdown_text, st.sampled_from(SIZES), st.randoms(use_true_random=False))
def test_any_pieces_end_like_all_at_once(text: str, size: tuple[int, int], rng: random.Random) -> None:
    pieces = show(text, *size, cut=lambda left: rng.randint(1, min(8, left)))
    assert pieces.display == show(text, *size).display


def long_answer() -> str:
    """500 lines of every kind of block, each with a number of its own."""
    blocks = []
    for number in range(0, 500, 10):
        blocks += [
            f"## 見出し<{number}>\n",
            f"段落<{number + 1}>です。**強調<{number + 2}>**と`code`のある、長めの文章が続きます。\n",
            f"- 項目<{number + 3}>\n- 項目<{number + 4}>\n  - 入れ子<{number + 5}>\n",
            f"```python\nx = {number}  # <{number + 6}>\nprint(x)  # <{number + 7}>\n```\n",
            f"| 列 | 値 |\n|---|---|\n| a | <{number + 8}> |\n",
            f"> 引用<{number + 9}>\n",
        ]
    return "\n".join(blocks)


def numbers(rows: list[str]) -> list[str]:
    return re.findall(r"<\d+>", "".join(rows))


EVERY_NUMBER = [f"<{number}>" for number in range(500)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_long_answer_is_in_the_scrollback_once(size: tuple[int, int]) -> None:
    screen = show(long_answer(), *size, cut=lambda left: min(left, 97))
    tall = show(long_answer(), size[0], 3000)
    assert screen.display == tall.display
    assert numbers(screen.display) == EVERY_NUMBER


def test_a_table_taller_than_the_window_is_printed_once() -> None:
    table = "| 番号 | 名前 |\n|---|---|\n" + "".join(f"| <{row}> | 行 |\n" for row in range(60))
    screen = show(table + "\n終わり", 40, 10, cut=lambda left: min(left, 11))
    assert numbers(screen.display) == EVERY_NUMBER[:60]
    assert screen.display[-1] == "終わり"


def test_a_paragraph_taller_than_the_window_is_printed_once() -> None:
    paragraph = "**" + "".join(f"文<{number}>。" for number in range(50)) + "**"
    screen = show(paragraph, 20, 10, cut=lambda left: min(left, 13))
    assert numbers(screen.display) == EVERY_NUMBER[:50]
    assert "*" not in "".join(screen.display)


@pytest.mark.parametrize("reflow", [False, True], ids=["cutting", "reflowing"])
@pytest.mark.parametrize("seed", range(4))
def test_resizing_in_mid_answer_loses_and_repeats_nothing(reflow: bool, seed: int) -> None:
    rng = random.Random(seed)
    screen = Screen(80, 24)
    stream = MarkdownStream(
        screen.feed, look=LOOK, width=lambda: screen.columns, height=lambda: screen.lines, clock=counter()
    )
    # Every number begins a row, where a terminal that cuts its lines does not cut it off.
    answer = "\n".join(
        f"<{number}> の行は、窓の幅が変わっても**失われず**、二度も出ません。`code` もあります。"
        + ("\n" if number % 7 == 0 else "")
        for number in range(60)
    )
    while answer:
        size = rng.randint(1, 60)
        stream.feed(answer[:size])
        answer = answer[size:]
        if rng.random() < 0.15:
            screen.resize(rng.choice((40, 80, 120)), rng.choice((10, 24, 40)), reflow=reflow)
    stream.finish()
    assert numbers(screen.display) == EVERY_NUMBER[:60]


def test_final_rows_are_never_touched_again() -> None:
    screen = Screen(40, 15)
    final: list[str] = []

    def write(frame: str) -> None:
        above = len(screen.scrollback) + screen.raw.cursor.y
        assert screen.display[: len(final)] == final
        assert screen.raw.cursor.x == 0, "a frame begins and ends at the start of the live rows"
        screen.feed(frame)
        assert (screen.scrollback + screen.window)[:above] == (final + [""] * above)[:above]
        final[:] = (screen.scrollback + screen.window)[: len(screen.scrollback) + screen.raw.cursor.y]

    stream = MarkdownStream(write, look=LOOK, width=lambda: 40, height=lambda: 15, clock=counter())
    for start in range(0, len(JAPANESE), 3):
        stream.feed(JAPANESE[start : start + 3])
    stream.finish()
    assert screen.display == show(JAPANESE, 40, 15).display


def test_frames_are_coalesced_to_thirty_a_second() -> None:
    now = 0.0
    frames: list[tuple[float, str]] = []
    stream = MarkdownStream(
        lambda frame: frames.append((now, frame)),
        look=LOOK,
        width=lambda: 80,
        height=lambda: 24,
        clock=lambda: now,
    )
    for token in range(3000):
        now = token / 300
        stream.feed("たぬき" if token % 20 else "。\n")
    assert 250 <= len(frames) <= 301
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(frames)]
    assert min(gaps) >= 1 / 30 - 1e-9
    stream.finish()
    assert frames[-1][1].endswith("\n")


def test_nothing_new_draws_nothing() -> None:
    frames: list[str] = []
    stream = MarkdownStream(frames.append, look=LOOK, width=lambda: 80, height=lambda: 24, clock=counter())
    stream.feed("同じ")
    for _ in range(5):
        stream.feed("")
        stream.draw()
    assert len(frames) == 1


def test_a_code_line_is_final_as_soon_as_it_is_complete() -> None:
    frames: list[str] = []
    stream = MarkdownStream(frames.append, look=LOOK, width=lambda: 80, height=lambda: 24, clock=counter())
    stream.feed("```python\nx = 1\n")
    assert frames[-1].endswith("\n")
    assert not stream._live


def test_open_markup_is_already_shown_as_it_will_be() -> None:
    screen = Screen(40, 10)
    stream = MarkdownStream(screen.feed, look=LOOK, width=lambda: 40, height=lambda: 10, clock=counter())
    stream.feed("これは**大事な")
    assert screen.window[0] == "これは大事な"
    assert screen.raw.buffer[0][6].bold
    stream.interrupt()
    assert screen.display == ["これは大事な"]


def test_an_interrupted_answer_keeps_all_of_it() -> None:
    screen = Screen(40, 10)
    stream = MarkdownStream(screen.feed, look=LOOK, width=lambda: 40, height=lambda: 10, clock=counter())
    stream.feed("- 一つ\n- 二つ\n\n```python\nprint(")
    screen.feed("^C")
    stream.interrupt()
    assert screen.display == ["• 一つ", "• 二つ", "", "```python", "print(", "```"]
    assert (screen.raw.cursor.x, screen.raw.cursor.y) == (0, 6)


def test_an_answer_ends_with_exactly_one_newline() -> None:
    for text in ("", "a", "a\n\n\n", "```\nx\n```\n\n"):
        written: list[str] = []
        stream = MarkdownStream(written.append, look=LOOK, width=lambda: 80, height=lambda: 24)
        stream.feed(text)
        stream.finish()
        output = "".join(written)
        assert output.endswith("\n")
        assert not output.endswith("\n\n")


@settings(max_examples=60)
@given(markdown_text, st.sampled_from((20, 40)))
def test_no_row_is_wider_than_the_window_or_ends_in_a_space(text: str, width: int) -> None:
    written: list[str] = []
    stream = MarkdownStream(
        written.append, look=LOOK, width=lambda: width, height=lambda: 10, clock=counter()
    )
    stream.feed(text)
    stream.finish()
    for row in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", written[-1]).split("\n"):
        assert not row.endswith((" ", "\u3000"))
        if "```" not in text and "    " not in text:
            assert cell_width(row) <= width

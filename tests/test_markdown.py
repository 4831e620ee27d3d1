"""The streamed answer on a screen: nothing lost, nothing twice, the same however it arrives."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.terminal.markdown import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look
from tests.screen import Screen

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


def show(
    text: str, columns: int = 80, lines: int = 24, *, cut: Callable[[int], int] = lambda left: left
) -> Screen:
    """The screen after ``text`` came in pieces whose sizes ``cut`` chooses, a frame for every piece."""
    screen = Screen(columns, lines)
    frames = iter(range(1 << 30))
    stream = MarkdownStream(
        screen.feed,
        look=LOOK,
        width=lambda: screen.columns,
        height=lambda: screen.lines,
        clock=lambda: float(next(frames)),
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


@settings(deadline=None, max_examples=60)
@given(markdown_text, st.sampled_from(SIZES), st.randoms(use_true_random=False))
def test_any_pieces_end_like_all_at_once(text: str, size: tuple[int, int], rng: random.Random) -> None:
    pieces = show(text, *size, cut=lambda left: rng.randint(1, min(8, left)))
    assert pieces.display == show(text, *size).display
